"""Runs of the training tool as process trees that can be hit anywhere."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from tests import ROOT

TOKEN = 'FAULTS_LAUNCH'
LINE = re.compile(
    r'(?:epoch +(\d+)/\d+ \[ *(\d+)/(\d+)\]|iteration +(\d+)/\d+)  loss '
)
# Starting takes seconds, on a busy machine many.
PATIENCE = 300


class Launch:
    """A run of ``tools/train.py``, in a session of its own.

    Every process of the run carries a token in its environment, so none
    escapes by leaving the process group or by losing its parent. ``log`` gets
    what they print; ``prefix`` is a command that runs the command.
    """

    live: set['Launch'] = set()

    def __init__(
        self,
        config: Path,
        work_dir: Path,
        *options: str,
        log: Path,
        processes: int = 1,
        prefix: tuple[str, ...] = (),
    ):
        self.token = uuid.uuid4().hex
        self.log, self.processes = log, processes
        command = [sys.executable, ROOT / 'tools/train.py', config]
        if processes > 1:
            script = ROOT / 'tools/dist_train.sh'
            command = ['bash', script, config, processes]
        command += ['--work-dir', work_dir, *options]
        env = dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable)
        # First, as other packages install a module `tests` of their own.
        paths = [str(ROOT), os.environ.get('PYTHONPATH')]
        env['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
        # Sums of a GPU have no fixed order: ends would not be equal.
        env['CUDA_VISIBLE_DEVICES'] = ''
        env.pop('PIXCON_MM_TRACEBACK', None)
        self.started = time.monotonic()
        with log.open('w') as stream:
            self.process = subprocess.Popen(
                [*prefix, *map(str, command)],
                cwd=ROOT,
                env=dict(env, **{TOKEN: self.token}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.live.add(self)

    @property
    def pid(self) -> int:
        """Return the process that the shell started: train.py, or torchrun."""
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text(errors='replace')

    def tail(self) -> str:
        """Return the last lines that it has printed, on one line."""
        lines = [line.strip() for line in self.output().splitlines()]
        return ' / '.join([line for line in lines if line][-4:])[-500:]

    def positions(self) -> list[int]:
        """List the iterations that the run has logged, from the start."""
        return [
            int(iteration or (int(epoch or 1) - 1) * int(length or 0))
            + (0 if iteration else int(batch))
            for epoch, batch, length, iteration in LINE.findall(self.output())
        ]

    def wait_for(self, condition, timeout: float = PATIENCE) -> bool:
        """Poll until a condition holds; False if the run ended before."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise AssertionError(
                    f'waited {timeout} s in vain; the output ends with: '
                    f'{self.tail()}'
                )
            time.sleep(0.002)
        return True

    def wait_for_lines(self, count: int) -> bool:
        """Wait until so many iterations are logged; False if it ended."""
        seen = [-1, 0]

        def enough() -> bool:
            size = self.log.stat().st_size
            if size != seen[0]:
                seen[:] = size, len(self.positions())
            return seen[1] >= count

        return self.wait_for(enough)

    def end(self, timeout: float = PATIENCE) -> int:
        """Wait for the end; return the status, negative for a signal."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            tail = self.tail()
            self.kill()
            raise AssertionError(
                f'still running after {timeout:.0f} s: {tail}'
            ) from None
        self.live.discard(self)
        return status

    def refusal(self, *words: str, timeout: float = PATIENCE) -> str:
        """Assert that the run ends by itself with one sentence; return it.

        It must hold all words, in any case; ``|`` separates alternatives.
        """
        status = self.end(timeout)
        output = self.output()
        assert status == 1, f'exit {status}: {self.tail()}'
        assert 'Traceback' not in output, f'traceback: {self.tail()}'
        errors = [s for s in output.splitlines() if s.startswith('error: ')]
        # Of several processes, each may have a mistake of its own to report.
        assert 1 <= len(errors) <= self.processes, f'errors: {errors}'
        for word in words:
            assert any(
                w in errors[0].lower() for w in word.lower().split('|')
            ), f'no {word!r} in {errors[0]!r}'
        self.assert_no_orphans(10)
        return errors[0]

    def kill(self) -> None:
        """Kill -9 all processes of the run, the whole group first."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        while pids := self.pids():
            for pid in pids:
                send(pid, signal.SIGKILL)
            time.sleep(0.005)
        self.process.wait()
        self.live.discard(self)

    def pids(self) -> list[int]:
        """List all living processes of the run."""
        mark = f'{TOKEN}={self.token}'.encode()
        found = [int(name) for name in os.listdir('/proc') if name.isdigit()]
        return [pid for pid in found if mark in read(pid, 'environ')]

    def ranks(self) -> list[int]:
        """List the training processes in the order of their ranks."""
        if parent(self.pid) is None:
            return []
        ranks = {}
        for pid in self.pids():
            rank = re.search(rb'(?:^|\0)RANK=(\d+)', read(pid, 'environ'))
            if rank and parent(pid) == self.pid:
                ranks[int(rank[1])] = pid
        return [ranks[key] for key in sorted(ranks)] or [self.pid]

    def loader_workers(self) -> list[int]:
        """List the workers of the loaders: forks of training processes."""
        ranks = self.ranks()
        words = {pid: read(pid, 'cmdline') for pid in ranks}
        return [
            pid
            for pid in self.pids()
            if parent(pid) in ranks
            and read(pid, 'cmdline') == words[parent(pid)]
        ]

    def assert_no_orphans(self, patience: float) -> None:
        """Assert that no process of the run lives after some seconds."""
        deadline = time.monotonic() + patience
        while (pids := self.pids()) and time.monotonic() < deadline:
            time.sleep(0.05)
        orphans = [f'{pid} {read(pid, "cmdline")[-80:]!r}' for pid in pids]
        assert not orphans, f'orphans: {orphans}'


def send(pid: int, number: int) -> None:
    """Send a signal; a process that is gone does not mind."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def read(pid: int, name: str) -> bytes:
    """Read a file of a process in /proc; empty if it is gone."""
    try:
        return Path(f'/proc/{pid}/{name}').read_bytes()
    except OSError:
        return b''


def parent(pid: int) -> int | None:
    """Find the parent of a process; None if it has ended."""
    # The name, in brackets, may hold blanks.
    fields = read(pid, 'stat').rpartition(b')')[2].split()
    return int(fields[1]) if fields and fields[0] not in b'ZX' else None
