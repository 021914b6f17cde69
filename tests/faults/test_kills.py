"""Runs that are killed at any moment end with the weights of unbroken ones."""

import os
import signal
import time
from collections import Counter
from functools import partial

import pytest

from tests.faults import checkpoints, recipes
from tests.faults.cases import SCALE, Case, scaled
from tests.faults.stories import Story

pytestmark = pytest.mark.faults
KILLS = 5  # a story
PATIENCE = 60  # for what is left of a launch that has lost a process


def killed(recipe, number, kills, lab, folder):
    """Kill -9 everything, at moments of three kinds."""
    seen, outcome = Counter(), ''
    # A run that ends before its last kill is followed by another one.
    for part in range(kills):
        if (left := kills - seen['kills']) == 0:
            break
        name = f'kills {number}' + f' again {part}' * (part > 0)
        story = Story(lab, folder / str(part), recipe, name)
        outcome = kill(story, left, seen)
    assert seen['kills'] == kills
    kinds = ', '.join(f'{name} {seen[name]}' for name in sorted(seen))
    return kills, f'{outcome} ({kinds})'


def kill(story, kills, seen):
    """Kill a run up to so many times, and count the kinds of moments."""
    # Each story has all kinds, in an order of its own.
    kinds = (['training', 'write'] * kills)[: kills - 1] + ['start']
    story.rng.shuffle(kinds)
    for index, kind in enumerate(kinds):
        faults_left = kills - index
        launch = story.start()
        if kind == 'write' and story.left <= story.recipe.interval:
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
        seen['kills'] += 1
        unfinished = checkpoints.unfinished(story.work_dir)
        seen['.part left'] += bool(unfinished)
        story.check()
    return story.finish()


def killed_with_average(lab, folder):
    """Kill a run with MMEngine's EMAHook: averages resume too."""
    recipe = recipes.AVERAGED
    content = checkpoints.load(lab.unbroken(recipe).final)
    average = content['ema_state_dict']['module.backbone.conv1.weight']
    weight = content['state_dict']['backbone.conv1.weight']
    assert not checkpoints.same(average, weight)
    return killed(recipe, 0, 2, lab, folder)


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
        launch.assert_no_orphans(5)
        story.check()
    outcome = story.finish()
    return kills, f'{outcome}, no orphans, ended within {longest:.0f} s'


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
        try:
            launch.assert_no_orphans(10)
        finally:
            launch.kill()
        longest = max(longest, time.monotonic() - died)
        story.check()
    outcome = story.finish()
    return kills, f'{outcome}, no orphans after {longest:.1f} s'


RECIPES = (
    recipes.EPOCHS,
    recipes.MID_EPOCH,
    recipes.ITERATIONS,
    recipes.ACCUMULATION,
    recipes.TWO,
    recipes.DETECTION,
    recipes.SEGMENTATION,
)
ALL = 'kill -9 of all'
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
        Case(ALL, recipe.name, partial(killed, recipe, number, KILLS), KILLS)
        for number in range(scaled(3))
        for recipe in RECIPES
    ),
    Case(ALL, recipes.AVERAGED.name, killed_with_average, 2),
]
TIMES: list[int] = []


@pytest.mark.parametrize('case', CASES, ids=str)
def test_ends_as_unbroken(case, run_case):
    TIMES.append(run_case(case))


@pytest.mark.skipif(SCALE != 1, reason='needs FAULTS_SCALE=1')
def test_as_many_kills_as_planned():
    if len(TIMES) < len(CASES):
        pytest.skip('needs all cases of kills')
    assert sum(TIMES) >= sum(case.times for case in CASES)
