"""All cases of the campaign; the modules beside this one describe them."""

import pytest

from tests.faults import (
    damage,
    kills,
    long_run,
    not_finite,
    resources,
    signals,
    two_processes,
)

CASES = [
    *(*kills.CASES, *signals.CASES, *damage.CASES, *resources.CASES),
    *(*not_finite.CASES, *two_processes.CASES, *long_run.CASES),
]


@pytest.mark.faults
@pytest.mark.parametrize('case', CASES, ids=str)
def test_ends_as_unbroken_or_says_why(case, run_case):
    run_case(case)
