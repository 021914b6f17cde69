"""Runs that are killed at any moment end with the weights of unbroken ones."""

import os
import signal
import time
from collections import Counter

from tests.faults import checkpoints, recipes
from tests.faults.lab import Case, scaled
from tests.faults.stories import Story

KILLS = 5  # a story
PATIENCE = 60  # for what is left of a launch that has lost a process


def killed(lab, folder, recipe, number, kills=KILLS):
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
    return f'{outcome} ({kinds})'


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


def killed_with_average(lab, folder, recipe):
    """Kill a run with MMEngine's EMAHook: averages resume too."""
    content = checkpoints.load(lab.unbroken(recipe).final)
    average = content['ema_state_dict']['module.backbone.conv1.weight']
    weight = content['state_dict']['backbone.conv1.weight']
    assert not checkpoints.same(average, weight)
    return killed(lab, folder, recipe, 0, kills=2)


def one_killed(lab, folder, recipe, choose, name):
    """Kill -9 one process of a launch: it ends, and leaves nothing."""
    story = Story(lab, folder, recipe, name)
    longest = 0.0
    for launch in story.hits(KILLS):
        os.kill(choose(story, launch), signal.SIGKILL)
        died = time.monotonic()
        try:
            assert launch.end(PATIENCE) != 0, 'the launch ended with 0'
            launch.assert_no_orphans(10)
        finally:
            launch.kill()
        longest = max(longest, time.monotonic() - died)
    return f'{story.finish()}, no orphans, ended within {longest:.0f} s'


def a_rank(story, launch):
    return story.rng.choice(launch.ranks())


def torchrun(story, launch):
    return launch.pid


ONE_OF_TWO = (
    *(('a rank', a_rank, f'ranks {number}') for number in range(scaled(4))),
    ('torchrun', torchrun, 'torchrun'),
)
RECIPES = (
    *(recipes.EPOCHS, recipes.MID_EPOCH, recipes.ITERATIONS),
    *(recipes.ACCUMULATION, recipes.TWO, recipes.DETECTION),
    recipes.SEGMENTATION,
)
ALL = 'kill -9 of all'
CASES = [
    *(
        Case(f'kill -9 of {what}', recipes.TWO, one_killed, args)
        for what, *args in ONE_OF_TWO
    ),
    *(
        Case(ALL, recipe, killed, (number,))
        for number in range(scaled(3))
        for recipe in RECIPES
    ),
    Case(ALL, recipes.AVERAGED, killed_with_average),
]
