"""Signals save at the end of an iteration; a run then ends where it would."""

import os
import signal
import time

from tests.faults import checkpoints, recipes
from tests.faults.lab import Case, scaled
from tests.faults.launches import parent, send
from tests.faults.stories import Story

SAVED = 75
PATIENCE = 60
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def group(launch):
    """List every process of the terminal's or the job's group."""
    return [pid for pid in launch.pids() if os.getpgid(pid) == launch.pid]


TARGETS = {
    'the process': lambda launch: [launch.pid],
    'torchrun': lambda launch: [launch.pid],
    'rank 0': lambda launch: launch.ranks()[:1],
    'rank 1': lambda launch: launch.ranks()[1:],
    # As a terminal does on Ctrl-C, and `timeout`; loader workers included.
    'its process group': group,
    'all its processes': lambda launch: launch.pids(),
}


def signalled(lab, folder, recipe, number, targets, times):
    """Check that each signal saves and ends with 75; then resume."""
    story = Story(lab, folder, recipe, f'{number.name} {targets}')
    longest = 0.0
    for turn, launch in enumerate(story.hits(times)):
        target = targets[turn % len(targets)]
        sent = time.monotonic()
        for pid in TARGETS[target](launch):
            send(pid, number)
        status = launch.end(PATIENCE)
        longest = max(longest, time.monotonic() - sent)
        where = f'{number.name} to {target}: exit {status}'
        assert status == SAVED, f'{where}: {launch.tail()}'
        launch.assert_no_orphans(5)
        # All that was trained is saved.
        last, length = launch.positions()[-1], recipe.length
        done = checkpoints.progress(story.work_dir, length)
        assert done == last, f'{last} iterations, {done} saved'
    outcome = story.finish()
    return f'exit {SAVED} within {longest:.1f} s, {outcome}'


def signalled_in_start(lab, folder, recipe, times):
    """Send a signal while the run starts: it ends and loses nothing."""
    story = Story(lab, folder, recipe, 'signals in start')
    # Something to lose.
    launch = story.start()
    story.wait_in_write(4)
    launch.kill()
    story.check()
    statuses = []
    for turn in range(times):
        number = SIGNALS[turn % len(SIGNALS)]
        launch = story.start()
        story.wait_in_start()
        send(launch.pid, number)
        statuses.append(launch.end(PATIENCE))
        assert statuses[-1] != 0, f'{number.name}: exit 0'
        launch.assert_no_orphans(5)
        story.check()
    outcome = story.finish()
    return f'exit {sorted(set(statuses))}, {outcome}'


def signalled_twice(lab, folder, recipe, number, target):
    """Send a second signal to a run that cannot end its iteration."""
    story = Story(lab, folder, recipe, f'{number.name} twice')
    launch = story.start()
    assert story.wait_in_training(3), launch.tail()
    # Without data the iteration never ends.
    for worker in launch.loader_workers():
        send(worker, signal.SIGSTOP)
    time.sleep(1)  # what was loaded before is used up
    for pid in TARGETS[target](launch):
        send(pid, number)
    time.sleep(3)
    alive = parent(launch.pid) is not None
    assert alive, f'one signal ended it: {launch.tail()}'
    for pid in TARGETS[target](launch):
        send(pid, number)
    sent = time.monotonic()
    status = launch.end(20)
    took = time.monotonic() - sent
    assert status != 0
    try:
        launch.assert_no_orphans(5)
    finally:
        launch.kill()
    story.check()
    return f'exit {status} {took:.1f} s later, {story.finish()}'


TIMES = scaled(5)
ONE, TWO = recipes.EPOCHS, recipes.TWO
# Signals, their times, runs and targets.
HITS = (
    (SIGNALS, TIMES, ONE, ['the process']),
    (SIGNALS, TIMES, TWO, ['torchrun', 'rank 0', 'rank 1']),
    (SIGNALS, 2, recipes.MID_EPOCH, ['its process group']),
    (SIGNALS, 2, TWO, ['all its processes']),
    *(
        ([signal.SIGTERM], 2, recipe, ['the process'])
        for recipe in (
            recipes.ITERATIONS,
            recipes.ACCUMULATION,
            recipes.DETECTION,
            recipes.SEGMENTATION,
        )
    ),
)
GROUPS = (['its process group'], ['all its processes'])
CASES = [
    *(
        Case(
            number.name + (f' to {targets[0]}' if targets in GROUPS else ''),
            *(recipe, signalled, (number, targets, times)),
        )
        for numbers, times, recipe, targets in HITS
        for number in numbers
    ),
    Case('signal before the first iteration', ONE, signalled_in_start, (3,)),
    *(
        Case(f'{number.name} twice', recipe, signalled_twice, (number, target))
        for number in SIGNALS
        for recipe, target in ((ONE, 'the process'), (TWO, 'torchrun'))
    ),
]
