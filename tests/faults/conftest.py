"""Runs the cases two at a time, on data and unbroken runs that they share."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.cases import Case
from tests.faults.lab import Lab
from tests.faults.launches import Launch


@pytest.fixture(scope='session')
def outcomes(request, tmp_path_factory):
    """Start the checks of all chosen cases in the background, in order."""
    lab = Lab(tmp_path_factory.mktemp('faults'))

    def check(case: Case, index: int) -> str:
        folder = lab.folder / f'{index:03d}'
        folder.mkdir()
        (folder / 'case.txt').write_text(f'{case}\n')
        outcome = case.check(lab, folder)
        if not os.environ.get('FAULTS_KEEP'):
            shutil.rmtree(folder)
        return outcome.replace(f'{folder}/', '')

    cases = [
        item.callspec.params['case']
        for item in request.session.items
        if 'outcomes' in getattr(item, 'fixturenames', ())
    ]
    pool = ThreadPoolExecutor(int(os.environ.get('FAULTS_WORKERS', 2)))
    yield {c: pool.submit(check, c, i) for i, c in enumerate(cases)}
    # Leave no process behind.
    pool.shutdown(wait=False, cancel_futures=True)
    for launch in list(Launch.live):
        launch.kill()
