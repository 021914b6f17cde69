"""Folder of a run, with its settings, attempts and result."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.checkpoint.run_checkpoint import list_checkpoints
from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write
from pixcon_mm.visualization.curves import Records, read_records


class DamagedError(Exception):
    """Error for a file that is damaged; the message says how."""


@dataclass(frozen=True)
class RunDir:
    """Folder of a run, which is also the work directory of its tool.

    ``run.json`` has the settings that the run was started with,
    ``attempts.json`` the time and exit status of each attempt,
    ``metrics.json`` the result of a complete run, and ``log.txt`` the output
    of the tool.
    """

    path: Path  # need not exist

    @property
    def log_file(self) -> Path:
        """File with the output of the tool."""
        return self.path / 'log.txt'

    def beside(self, suffix: str) -> Path:
        """Return a file beside the folder, which stays if that is renamed."""
        return self.path.with_name(f'.{self.path.name}.{suffix}')

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file with a digest of its content."""
        report = dict(content=content, digest=digest(content))
        text = json.dumps(report, indent=2)
        atomic_write(self.path / name, f'{text}\n'.encode())

    def read(self, name: str) -> Any:
        """Read the content of a JSON file; None if there is no file.

        Raises:
            DamagedError: If the file is damaged or was edited.
        """
        path = self.path / name
        try:
            report = json.loads(path.read_text(encoding='utf-8'))
            content = report['content']
            is_unchanged = report['digest'] == digest(content)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DamagedError(f'{path} cannot be read ({error})') from error
        if not is_unchanged:
            raise DamagedError(f'{path} was changed after it was written')
        return content

    def attempts(self) -> list[dict[str, Any]]:
        """Read the attempts so far; an empty list if the file is damaged."""
        with contextlib.suppress(DamagedError):
            return self.read('attempts.json') or []
        return []

    def records(self) -> Records:
        """Read the training log; an empty list if it has no line yet."""
        with contextlib.suppress(UserError):
            return read_records(self.path)
        return []

    @contextlib.contextmanager
    def locked(self, wait: bool = False) -> Iterator[int | None]:
        """Hold the run's lock; yield its file descriptor, None if it is taken.

        A tool that inherits the descriptor keeps the run locked, even if the
        process that started the tool is killed.
        """
        path = self.beside('lock')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open('a')
        except OSError as error:
            raise _no_access(path, error) from error
        with file:
            is_free = _lock(file, fcntl.LOCK_EX, wait)
            yield file.fileno() if is_free else None

    def is_running(self) -> bool:
        """Check if a process holds the lock."""
        path = self.beside('lock')
        try:
            # With a shared lock, two processes that check at the same time
            # do not take each other for a run.
            with path.open() as file:
                return not _lock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _no_access(path, error) from error

    def newest_checkpoint(self) -> Path | None:
        """Find a checkpoint, the newest if all count the same; open none.

        Numbers of epochs and of iterations cannot be compared.
        """
        return max(
            list_checkpoints(self.path),
            key=lambda path: int(path.stem.split('_')[1]),
            default=None,
        )

    def last_line(self, offset: int = 0) -> str:
        """Read the last non-empty line of the log after an offset in bytes."""
        try:
            with open(self.log_file, 'rb') as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(offset, end - 4096))
                lines = file.read().decode(errors='replace').split('\n')
        except FileNotFoundError:
            return ''
        return next((x.strip() for x in reversed(lines) if x.strip()), '')

    def set_aside(self) -> Path:
        """Rename the folder, so that the run can start over."""
        names = (f'{self.path.name}.old{n}' for n in itertools.count(1))
        paths = map(self.path.with_name, names)
        return self.path.rename(next(p for p in paths if not p.exists()))


def _no_access(path: Path, error: OSError) -> UserError:
    return UserError(
        f'{path} cannot be opened ({error.strerror}): choose another work_dir '
        'in the plan.'
    )


def _lock(file: IO, kind: int, wait: bool = False) -> bool:
    """Lock a file as long as it is open; False if another process has it."""
    try:
        fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f'{file.name} cannot be locked ({error.strerror}), so two runs '
            'could use the same folder: choose a work_dir on a file system '
            'that supports locks, or mount it with support for them (flock).'
        ) from error
    return True


def digest(content: Any) -> str:
    """Return the SHA-256 of JSON content."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """Describe a checkpoint, for :func:`is_same_file`."""
    stat = path.stat()
    return dict(
        name=path.name,
        sha256=sha256_of(path),
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def is_same_file(path: Path, known: dict[str, Any]) -> bool:
    """Check if a file is the one that :func:`describe_file` described.

    The file is read only if its time of change differs.
    """
    stat = path.stat()
    return stat.st_size == known['size'] and (
        stat.st_mtime_ns == known['mtime_ns']
        or _sha256_at(path, stat.st_mtime_ns) == known['sha256']
    )


@functools.cache
def _sha256_at(path: Path, mtime_ns: int) -> str:
    return sha256_of(path)


@dataclass(frozen=True)
class Cost:
    """Time and memory of all attempts of one or several runs."""

    device_hours: float  # hours times devices
    device: str  # name of the device, e.g. 'NVIDIA H100' or 'CPU'
    # Peak memory of a process on its GPU; on a CPU, peak resident memory.
    memory_gib: float | None = None
    # Speed of all processes together, median over the lines of the log.
    images_per_second: float | None = None


def cost_of(attempts: list[dict[str, Any]], records: Records) -> Cost:
    """Compute the cost of a run from its attempts and its training log."""
    memory = [a['resident_gib'] for a in attempts if a['resident_gib']]
    gpu_memory = [r['memory'] / 1024 for r in records if 'memory' in r]
    key = 'images_per_second'
    speeds = [record[key] for record in records if key in record]
    return Cost(
        sum(a['seconds'] * a['devices'] for a in attempts) / 3600,
        attempts[-1]['device'] if attempts else '',
        max(gpu_memory or memory, default=None),
        statistics.median(speeds) if speeds else None,
    )


def add_costs(costs: list[Cost]) -> Cost | None:
    """Add the costs of runs; None if nothing has run."""
    devices = [cost.device for cost in costs if cost.device]
    if not devices:
        return None
    speeds = [c.images_per_second for c in costs if c.images_per_second]
    return Cost(
        sum(cost.device_hours for cost in costs),
        ', '.join(dict.fromkeys(devices)),
        max((c.memory_gib for c in costs if c.memory_gib), default=None),
        statistics.median_high(speeds) if speeds else None,
    )
