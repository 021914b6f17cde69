"""Runs that are killed at any moment end with the weights of unbroken ones."""

import os
import signal
import time
from collections import Counter
from functools import partial

import pytest

from tests.faults import checkpoints, recipes
from tests.faults.cases import Case, scaled
from tests.faults.stories import Story

pytestmark = pytest.mark.faults
KILLS = 5  # a story
PATIENCE = 60  # for what is left of a launch that has lost a process


def killed(recipe, number, kills, lab, folder):
    """Kill -9 everything, at moments of three kinds."""
    story = Story(lab, folder, recipe, f'kills {number}')
    # Each story has all kinds, in an order of its own.
    kinds = (['training', 'write'] * kills)[: kills - 1] + ['start']
    story.rng.shuffle(kinds)
    seen = Counter()
    for index, kind in enumerate(kinds):
        faults_left = kills - index
        launch = story.start()
        if kind == 'write' and story.left <= recipe.interval:
            kind = 'training'  # rather than at the last of all writes
        if kind == 'start':
            story.wait_in_start()
        elif kind == 'training':
            story.wait_in_training(faults_left)
        else:
            story.wait_in_write(faults_left)
        if launch.process.poll() is not None:
            assert launch.end() == 0, launch.tail()
            break
        launch.kill()
        seen[kind] += 1
        seen['.part left'] += bool(checkpoints.parts(story.work_dir))
        story.check()
    said = story.finish()
    times = seen['start'] + seen['training'] + seen['write']
    return times, f'{said} ({times_of(seen)})'


def times_of(seen):
    return ', '.join(f'{name} {seen[name]}' for name in sorted(seen))


def one_rank_killed(number, kills, lab, folder):
    """Kill -9 one of two ranks: the launch ends, and leaves nothing."""
    story = Story(lab, folder, recipes.TWO, f'ranks {number}')
    longest = 0.0
    for faults_left in range(kills, 0, -1):
        launch = story.start()
        assert story.wait_in_training(faults_left), launch.tail()
        os.kill(story.rng.choice(launch.ranks()), signal.SIGKILL)
        died = time.monotonic()
        status = launch.end(PATIENCE)
        longest = max(longest, time.monotonic() - died)
        assert status != 0, 'the launch ended with 0'
        orphans = launch.orphans(5)
        assert not orphans, f'orphans: {orphans}'
        story.check()
    said = story.finish()
    return kills, f'{said}, no orphans, ended within {longest:.0f} s'


def launcher_killed(kills, lab, folder):
    """Kill -9 torchrun alone: its ranks end too."""
    story = Story(lab, folder, recipes.TWO, 'torchrun')
    longest = 0.0
    for faults_left in range(kills, 0, -1):
        launch = story.start()
        assert story.wait_in_training(faults_left), launch.tail()
        os.kill(launch.pid, signal.SIGKILL)
        died = time.monotonic()
        launch.end(PATIENCE)
        orphans = launch.orphans(10)
        longest = max(longest, time.monotonic() - died)
        launch.kill()
        assert not orphans, f'orphans: {orphans}'
        story.check()
    said = story.finish()
    return kills, f'{said}, no orphans after {longest:.1f} s'


RECIPES = (
    recipes.EPOCHS,
    recipes.MID_EPOCH,
    recipes.ITERATIONS,
    recipes.ACCUMULATION,
    recipes.TWO,
    recipes.DETECTION,
    recipes.SEGMENTATION,
)
CASES = [
    *(
        Case(
            'kill -9 of a rank',
            recipes.TWO.name,
            partial(one_rank_killed, number, KILLS),
            KILLS,
        )
        for number in range(scaled(4))
    ),
    Case(
        'kill -9 of torchrun',
        recipes.TWO.name,
        partial(launcher_killed, KILLS),
        KILLS,
    ),
    *(
        Case(
            'kill -9 of all',
            recipe.name,
            partial(killed, recipe, number, KILLS),
            KILLS,
        )
        for number in range(scaled(3))
        for recipe in RECIPES
    ),
]


@pytest.mark.parametrize('case', CASES, ids=str)
def test_ends_as_unbroken(case, run_case):
    run_case(case)
