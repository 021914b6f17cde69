"""Runs the cases two at a time and prints the table at the end."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.cases import Case, Table
from tests.faults.lab import Lab
from tests.faults.launches import Launch

TABLE = pytest.StashKey[Table]()


def pytest_configure(config):
    config.stash[TABLE] = Table()


@pytest.fixture(scope='session')
def futures(request, tmp_path_factory):
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
        if 'run_case' in getattr(item, 'fixturenames', ())
    ]
    pool = ThreadPoolExecutor(int(os.environ.get('FAULTS_WORKERS', 2)))
    yield {c: pool.submit(check, c, i) for i, c in enumerate(cases)}
    # Leave no process behind.
    pool.shutdown(wait=False, cancel_futures=True)
    for launch in list(Launch.live):
        launch.kill()


@pytest.fixture
def run_case(request, futures):
    """Return a function that waits for a case and adds it to the table."""
    table = request.config.stash[TABLE]

    def wait(case: Case) -> None:
        try:
            table.add(case, futures[case].result(), case.times)
        except pytest.skip.Exception as reason:
            table.add(case, f'left out: {reason}', 0)
            raise
        except BaseException as error:
            line = str(error).strip().partition('\n')[0]
            line = f'{type(error).__name__}: {line}'
            table.add(case, line, case.times, failures=1)
            raise
        finally:
            if path := os.environ.get('FAULTS_REPORT'):
                Path(path).write_text(f'{table}\n')

    return wait


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[TABLE].rows:
        terminalreporter.section('faults')
        terminalreporter.write_line(str(config.stash[TABLE]))
