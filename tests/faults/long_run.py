"""Memory, descriptors and shared memory of a long run stay where they are."""

import contextlib
import os
import time
from pathlib import Path

import pytest

from tests.faults import mounts, recipes
from tests.faults.lab import Case, scaled
from tests.faults.launches import read

LENGTH = 10
EPOCHS = scaled(500)
MEBIBYTE = 2**20
# What the low-water mark may rise by between the second and the last fifth
# of a run; batches in flight come and go above it. The process takes about
# 2,000 iterations to settle, while the histories of what is logged grow.
LIMITS = {
    'memory of the process, MiB': 8.0,
    'memory of the workers, MiB': 8.0,
    'shared memory of the process, MiB': 0.5,
    '/dev/shm, MiB': 0.5,
    'descriptors of the process': 0,
    'descriptors of the workers': 0,
    'processes': 0,
    'threads': 0,
}
LONG = recipes.Recipe(
    f'pre-training, {EPOCHS * LENGTH} iterations',
    recipes.DEMO,
    {
        **recipes.PIXCON,
        'train_dataloader.num_workers': 2,
        'train_cfg': dict(by_epoch=True, max_epochs=EPOCHS),
        'param_scheduler': recipes.cosine(EPOCHS * LENGTH),
        'default_hooks.logger.interval': 5,
        'default_hooks.checkpoint.interval': 5,
        'default_hooks.checkpoint.max_keep_ckpts': 3,
    },
    EPOCHS * LENGTH,
    5 * LENGTH,
)


def status(pid: int, name: str) -> int:
    """Read a number of a process's status; 0 if it is gone."""
    for line in read(pid, 'status').decode().splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1])
    return 0


def descriptors(pid: int) -> int:
    """Count open descriptors of a process, but for batches in flight.

    Those are files in /dev/shm without a name, nine a batch; what they take
    is measured in bytes.
    """
    count = 0
    with contextlib.suppress(OSError):
        for link in Path(f'/proc/{pid}/fd').iterdir():
            with contextlib.suppress(OSError):
                count += not os.readlink(link).startswith('/dev/shm/torch_')
    return count


def sample(launch) -> dict[str, float]:
    """Measure the resources that a run holds now."""
    workers = launch.loader_workers()
    shm = os.statvfs(f'/proc/{launch.pid}/root/dev/shm')
    own, theirs = (
        {
            name: sum(status(pid, name) for pid in pids)
            for name in ('VmRSS', 'RssShmem', 'Threads')
        }
        for pids in ([launch.pid], workers)
    )
    return {
        'memory of the process, MiB': own['VmRSS'] / 1024,
        'memory of the workers, MiB': theirs['VmRSS'] / 1024,
        'shared memory of the process, MiB': own['RssShmem'] / 1024,
        '/dev/shm, MiB': (shm.f_blocks - shm.f_bfree) * shm.f_bsize / MEBIBYTE,
        'descriptors of the process': descriptors(launch.pid),
        'descriptors of the workers': sum(map(descriptors, workers)),
        'processes': 1 + len(workers),
        'threads': own['Threads'],
    }


def flat(lab, folder: Path, recipe):
    """Compare the low-water marks of the second fifth and the last."""
    prefix = ()
    try:
        # Others use the machine's own.
        prefix = mounts.small_shared_memory('256m')
    except pytest.skip.Exception:
        LIMITS.pop('/dev/shm, MiB', None)
    launch = lab.launch(recipe, folder / 'run', prefix=prefix)
    assert launch.wait_for_lines(1), launch.tail()
    samples = []
    while launch.process.poll() is None:
        values = sample(launch)
        position = launch.positions()[-1] / recipe.total
        # A process that is ending has begun to let go.
        if launch.process.poll() is None and position < 1:
            samples.append((position, values))
        time.sleep(1)
    assert launch.end() == 0, launch.tail()
    grown, values = [], []
    for name, limit in LIMITS.items():
        early, late = (
            min(v[name] for p, v in samples if low <= p < high)
            for low, high in ((0.2, 0.4), (0.8, 1.0))
        )
        values.append(f'{name} {early:.4g} to {late:.4g}')
        if late - early > limit:
            grown.append(values[-1])
    assert not grown, '; '.join(grown)
    return f'{len(samples)} samples: ' + '; '.join(values)


CASES = [Case('long run', LONG, flat)]
