"""All cases of the campaign; the modules beside this one describe them."""

import pytest

from tests.faults import kills, long_run, not_finite, resources, signals

CASES = [
    *(*kills.CASES, *signals.CASES, *resources.CASES),
    *(*not_finite.CASES, *long_run.CASES),
]


@pytest.mark.faults
@pytest.mark.parametrize('case', CASES, ids=str)
def test_ends_as_unbroken_or_says_why(case, outcomes):
    print(outcomes[case].result())
