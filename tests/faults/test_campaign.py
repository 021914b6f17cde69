"""All cases of the campaign; the modules beside this one describe them."""

import shutil

import pytest

from tests.faults import kills, long_run, not_finite, resources, signals
from tests.faults.lab import Lab
from tests.faults.launches import Launch

CASES = [
    *(*kills.CASES, *signals.CASES, *resources.CASES),
    *(*not_finite.CASES, *long_run.CASES),
]


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp('faults'))


@pytest.mark.faults
@pytest.mark.parametrize('number', range(len(CASES)), ids=map(str, CASES))
def test_ends_as_unbroken_or_says_why(number, lab):
    case, folder = CASES[number], lab.folder / f'{number:03d}'
    folder.mkdir()
    try:
        outcome = case.check(lab, folder, case.recipe, *case.args)
    finally:
        for launch in list(Launch.live):
            launch.kill()
    shutil.rmtree(folder)  # that of a case that failed is left
    print(outcome.replace(f'{folder}/', ''))
