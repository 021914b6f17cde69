"""The files of a run: what was asked, what it took, what came out."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.checkpoint.run_checkpoint import list_checkpoints
from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write


class DamagedError(Exception):
    """A file that says nothing one can rely on; the message says why."""


@dataclass(frozen=True)
class Folder:
    """Where a run keeps its files, beside those of the tool it runs.

    ``run.json`` what the run was asked for, written when it first starts;
    ``attempts.json`` times and exits; ``metrics.json`` the result, written
    when it is complete; ``log.txt`` what the tool printed.

    Args:
        path (Path): The folder; need not exist.
    """

    path: Path

    @property
    def metrics_file(self) -> Path:
        """The result."""
        return self.path / 'metrics.json'

    @property
    def log_file(self) -> Path:
        """What the tool printed."""
        return self.path / 'log.txt'

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file with a digest of its content, whole."""
        report = dict(content=content, digest=digest_of(content))
        text = json.dumps(report, indent=2)
        atomic_write(self.path / name, f'{text}\n'.encode())

    def read(self, name: str) -> Any:
        """The content of a JSON file, None if there is no file.

        Raises:
            DamagedError: If it is not as it was written.
        """
        path = self.path / name
        try:
            report = json.loads(path.read_text(encoding='utf-8'))
            content = report['content']
            is_whole = report['digest'] == digest_of(content)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise DamagedError(f'{path} cannot be read ({error})') from error
        if not is_whole:
            raise DamagedError(f'{path} was changed after it was written')
        return content

    @property
    def lock_file(self) -> Path:
        """Beside the folder, which may be renamed while it is locked."""
        return self.path.with_name(f'.{self.path.name}.lock')

    @contextlib.contextmanager
    def locked(self) -> Iterator[int | None]:
        """Hold the run's lock; gives its file descriptor, None if taken.

        The lock goes with the last process that has the descriptor, however
        it ends. A tool that inherits it keeps the run locked even if the
        process that started it is killed.
        """
        try:
            self.lock_file.parent.mkdir(parents=True, exist_ok=True)
            file = self.lock_file.open('a')
        except OSError as error:
            raise UserError(
                f'{self.lock_file} cannot be written ({error.strerror}): '
                'choose another work_dir in the plan.'
            ) from error
        with file:
            yield file.fileno() if lock(file, fcntl.LOCK_EX) else None

    def is_running(self) -> bool:
        """Whether some process holds the lock."""
        try:
            # Shared, so that two who look do not take each other for a run.
            with open(self.lock_file) as file:
                return not lock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UserError(
                f'{self.lock_file} cannot be read ({error.strerror}): choose '
                'another work_dir in the plan.'
            ) from error

    def newest_checkpoint(self) -> Path | None:
        """Find the checkpoint that was written last; it is not opened."""
        written = [
            (path.stat().st_mtime_ns, int(path.stem.split('_')[1]), path)
            for path in list_checkpoints(self.path)
        ]
        return max(written)[-1] if written else None

    @property
    def job_file(self) -> Path:
        """Number of the run's job of Slurm; beside the folder, as the lock."""
        return self.path.with_name(f'.{self.path.name}.job')

    def last_line(self, offset: int = 0) -> str:
        """The last line of the log, after an offset, that says something."""
        try:
            with open(self.log_file, 'rb') as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(offset, end - 4096))
                lines = file.read().decode(errors='replace').split('\n')
        except FileNotFoundError:
            return ''
        return next((x.strip() for x in reversed(lines) if x.strip()), '')

    def set_aside(self) -> Path:
        """Rename the folder, so that the run can begin anew beside it."""
        number = 1
        while (
            aside := self.path.with_name(f'{self.path.name}.old{number}')
        ).exists():
            number += 1
        return self.path.rename(aside)


def lock(file: IO, kind: int) -> bool:
    """Lock a file as long as it is open; False if another process has it.

    Raises:
        UserError: If its file system has no locks.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f'{file.name} cannot be locked ({error.strerror}), so two runs '
            'could meet: choose a work_dir on a file system with locks, or '
            'mount it with them (flock).'
        ) from error
    return True


def digest_of(content: Any) -> str:
    """SHA-256 of JSON content, however it is laid out in a file."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """A checkpoint by content, and by what shows quickly that it is the same.

    Returns:
        dict: ``name`` in its folder, ``sha256``, ``size`` in bytes,
        ``mtime_ns``.
    """
    stat = path.stat()
    return dict(
        name=path.name,
        sha256=sha256_of(path),
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def is_same_file(path: Path, known: dict[str, Any]) -> bool:
    """Whether a file is what :func:`describe_file` described.

    Reads it only if its time stamp has changed.
    """
    stat = path.stat()
    if stat.st_size != known['size']:
        return False
    if stat.st_mtime_ns == known['mtime_ns']:
        return True
    return _sha256_at(path, stat.st_mtime_ns) == known['sha256']


@functools.cache
def _sha256_at(path: Path, mtime_ns: int) -> str:
    """Of a file as it was at a time; read once."""
    return sha256_of(path)
