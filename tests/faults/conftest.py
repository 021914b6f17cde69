"""Runs the cases two at a time and prints the table at the end."""

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.cases import Case, Row, markdown
from tests.faults.lab import Lab
from tests.faults.launches import Launch

ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config):
    config.stash[ROWS] = []


class Schedule:
    """Runs the checks of all chosen cases in the background, in order."""

    def __init__(self, cases: list[Case], folder: Path):
        self.lab = Lab(folder)
        self.pool = ThreadPoolExecutor(
            int(os.environ.get('FAULTS_WORKERS', 2))
        )
        self.futures: dict[Case, Future] = {
            case: self.pool.submit(self._check, case, index)
            for index, case in enumerate(cases)
        }

    def _check(self, case: Case, index: int) -> tuple[int, str]:
        folder = self.lab.folder / f'{index:03d}'
        folder.mkdir()
        (folder / 'case.txt').write_text(f'{case}\n')
        times, outcome = case.check(self.lab, folder)
        if not os.environ.get('FAULTS_KEEP'):
            shutil.rmtree(folder)
        return times, outcome.replace(f'{folder}/', '')

    def end(self) -> None:
        """Leave no process behind."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for launch in list(Launch.live):
            launch.kill()


@pytest.fixture(scope='session')
def schedule(request, tmp_path_factory):
    """Start all cases that were chosen."""
    cases = [
        item.callspec.params['case']
        for item in request.session.items
        if 'run_case' in getattr(item, 'fixturenames', ())
    ]
    schedule = Schedule(cases, tmp_path_factory.mktemp('faults'))
    yield schedule
    schedule.end()


@pytest.fixture
def run_case(request, schedule):
    """Wait for a case; its row goes into the table. Returns how often."""

    def wait(case: Case) -> int:
        times, failures = case.times, 1
        try:
            times, outcome = schedule.futures[case].result()
            failures = 0
            return times
        except pytest.skip.Exception as reason:
            times, outcome, failures = 0, f'left out: {reason}', 0
            raise
        except BaseException as error:
            line = str(error).strip().partition('\n')[0]
            outcome = f'{type(error).__name__}: {line}'
            raise
        finally:
            row = Row(case.fault, case.run, times, outcome, failures)
            request.config.stash[ROWS].append(row)
            write_report(request.config)

    return wait


def write_report(config) -> str:
    """Write the table so far to the file that the environment names."""
    table = markdown(config.stash[ROWS])
    if path := os.environ.get('FAULTS_REPORT'):
        Path(path).write_text(table + '\n')
    return table


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[ROWS]:
        terminalreporter.section('faults')
        terminalreporter.write_line(write_report(config))
