"""Lack of disk, memory or descriptors: one sentence, and nothing is lost."""

import os
import shutil
import signal

from tests.faults import checkpoints, mounts, recipes
from tests.faults.lab import Case
from tests.faults.launches import send
from tests.faults.stories import resumed

MEBIBYTE = 2**20
SOON = 90  # seconds that a run may take to notice, its start included
SHORT_TIMEOUT = ('--cfg-options', 'train_dataloader.timeout=5')


def size(lab, recipe) -> float:
    """Return the size of a checkpoint in MiB."""
    return lab.unbroken(recipe).final.stat().st_size / MEBIBYTE


def resumes(lab, recipe, work_dir) -> str:
    """Assert that a run that failed can be resumed to the same end."""
    bad = checkpoints.damaged(work_dir)
    assert not bad, f'damaged checkpoints: {bad}'
    done = checkpoints.progress(work_dir, recipe.length)
    return f'resumed from {done}: {resumed(lab, work_dir, done, recipe)}'


def disk_too_small(lab, folder, recipe, room):
    """Use a disk for ``room`` checkpoints, and then make it larger."""
    megabytes = room * size(lab, recipe) + 0.5
    with mounts.small_disk(folder / 'disk', f'{megabytes * 1024:.0f}k') as at:
        work_dir = at / 'run'
        message = lab.launch(recipe, work_dir).refusal('space|disk')
        done = checkpoints.progress(work_dir, recipe.length)
        expected = int(room) * recipe.interval
        assert done >= min(expected, recipe.interval), f'{done} saved'
        mounts.remount(at, 'size=200m')
        return f'{message} {resumes(lab, recipe, work_dir)}'


def disk_filled(lab, folder, recipe):
    """Fill the rest of the disk between two checkpoints."""
    megabytes = 2.5 * size(lab, recipe)
    with mounts.small_disk(folder / 'disk', f'{megabytes * 1024:.0f}k') as at:
        work_dir = at / 'run'
        launch = lab.launch(recipe, work_dir)
        assert launch.wait_for_lines(13), launch.tail()
        fill(at)
        message = launch.refusal('space|disk')
        (at / 'filler').unlink()
        return f'{message} {resumes(lab, recipe, work_dir)}'


def fill(place) -> None:
    """Write until nothing more fits."""
    with (place / 'filler').open('wb', buffering=0) as file:
        for block in (MEBIBYTE, 4096, 1):
            try:
                while file.write(bytes(block)) == block:
                    pass
            except OSError:
                continue


def disk_full_before(lab, folder, recipe):
    """Fill the disk before the start."""
    with mounts.small_disk(folder / 'disk', '256k') as at:
        fill(at)
        message = lab.launch(recipe, at / 'run').refusal('space|disk')
        (at / 'filler').unlink()
        mounts.remount(at, 'size=200m')
        return f'{message} {resumes(lab, recipe, at / "run")}'


def read_only(lab, folder, recipe, with_checkpoints):
    """Use a folder that cannot be written."""
    with mounts.small_disk(folder / 'disk', '200m') as at:
        work_dir = at / 'run'
        work_dir.mkdir()
        options = []
        if with_checkpoints:
            old = lab.unbroken(recipe).work_dir / 'epoch_3.pth'
            shutil.copy(old, work_dir)
            options = ['--resume']
        mounts.remount(at, 'ro')
        launch = lab.launch(recipe, work_dir, *options)
        message = launch.refusal('read-only|written', timeout=SOON)
        mounts.remount(at, 'rw')
        return f'{message} {resumes(lab, recipe, work_dir)}'


def removed(lab, folder, recipe):
    """Move the work directory away while the run trains."""
    launch = lab.launch(recipe, folder / 'run')
    assert launch.wait_for_lines(13), launch.tail()
    (folder / 'run').rename(folder / 'away')
    message = launch.refusal(str(folder / 'run'))
    return f'{message} {resumes(lab, recipe, folder / "away")}'


def too_many_files(lab, folder, recipe, share):
    """Allow fewer open files than the run has when all is well."""
    launch = lab.launch(recipe, folder / 'count')
    assert launch.wait_for_lines(1), launch.tail()
    needed = len(os.listdir(f'/proc/{launch.pid}/fd'))
    launch.kill()
    limit = int(share * needed)
    launch = lab.launch(recipe, folder / 'run', prefix=mounts.few_files(limit))
    message = launch.refusal('open files', timeout=SOON)
    outcome = resumes(lab, recipe, folder / 'run')
    return f'{limit} of {needed}: {message} {outcome}'


def shared_memory(lab, folder, recipe, megabytes):
    """Use a /dev/shm that holds less than the loader's batches."""
    prefix = mounts.small_shared_memory(megabytes)
    launch = lab.launch(recipe, folder / 'run', prefix=prefix)
    message = launch.refusal('/dev/shm|shared memory', timeout=SOON)
    return f'{message} {resumes(lab, recipe, folder / "run")}'


def worker_lost(lab, folder, recipe, number, options):
    """Kill or stop a worker of the loader."""
    work_dir = folder / 'run'
    launch = lab.launch(recipe, work_dir, *options)
    assert launch.wait_for_lines(recipe.interval + 3), launch.tail()
    workers = launch.loader_workers()
    assert workers, 'no worker was found'
    send(workers[-1], number)
    message = launch.refusal('worker|timed out|timeout', timeout=SOON)
    return f'{message} {resumes(lab, recipe, work_dir)}'


ONE = recipes.EPOCHS
CHECKS = (
    ('disk full at the first checkpoint', ONE, disk_too_small, 0.5),
    ('disk full at the second checkpoint', ONE, disk_too_small, 1.5),
    ('disk full at the third checkpoint', recipes.TWO, disk_too_small, 2.5),
    (
        'disk full at the second checkpoint',
        *(recipes.DETECTION, disk_too_small, 1.5),
    ),
    ('disk full between checkpoints', ONE, disk_filled),
    ('disk full before the start', ONE, disk_full_before),
    ('read-only work directory', ONE, read_only, False),
    ('read-only work directory, resumed', ONE, read_only, True),
    ('work directory moved away', ONE, removed),
    ('too many open files', ONE, too_many_files, 0.5),
    ('too many open files', ONE, too_many_files, 0.9),
    ('/dev/shm of 100 KiB', ONE, shared_memory, '100k'),
    ('/dev/shm full', ONE, shared_memory, '4k'),
)
LOST_BY = (
    ('kill -9', signal.SIGKILL, ()),
    ('stopped', signal.SIGSTOP, SHORT_TIMEOUT),
)
WITH_WORKERS = (
    *(recipes.MID_EPOCH, recipes.TWO),
    *(recipes.DETECTION, recipes.SEGMENTATION),
)
CASES = [
    *(Case(*check[:3], check[3:]) for check in CHECKS),
    *(
        Case(f'loader worker {what}', recipe, worker_lost, args)
        for what, *args in LOST_BY
        for recipe in WITH_WORKERS
    ),
]
