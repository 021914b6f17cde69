"""One run per work directory, and none kept out by a dead one."""

import os
import signal
from dataclasses import replace
from functools import partial

import pytest

from tests.faults import recipes
from tests.faults.cases import Case
from tests.faults.stories import Story

pytestmark = pytest.mark.faults
RECIPE = recipes.EPOCHS
SOON = 60


def second_run(processes, lab, folder):
    """Check that it is refused, and the first does not notice."""
    story = Story(lab, folder, RECIPE, 'second run')
    first = story.start()
    assert first.wait_for_lines(1), first.tail()
    # The first must still be there when the second looks.
    os.kill(first.pid, signal.SIGSTOP)
    link = folder / 'link'
    link.symlink_to(story.work_dir)
    messages = []
    for place in (story.work_dir, link):
        for options in ([], ['--resume'], ['--overwrite']):
            recipe = replace(RECIPE, processes=processes)
            second = lab.launch(recipe, place, *options)
            messages.append(second.refusal(timeout=SOON))
    os.kill(first.pid, signal.SIGCONT)
    assert first.end() == 0, first.tail()
    outcome = lab.finished(RECIPE, story.work_dir)
    return len(messages), f'{messages[0]} First: {outcome}'


def at_once(lab, folder):
    """Start two together: one trains, one is refused."""
    story = Story(lab, folder, RECIPE, 'at once')
    pair = [story.start(), lab.launch(RECIPE, story.work_dir)]
    statuses = sorted(launch.end() for launch in pair)
    tails = ' | '.join(launch.tail() for launch in pair)
    assert statuses == [0, 1], f'exit {statuses}: {tails}'
    return 1, lab.finished(RECIPE, story.work_dir)


def owner_killed(times, lab, folder):
    """Kill -9 of the training process alone; the next starts at once."""
    story = Story(lab, folder, recipes.MID_EPOCH, 'owner')
    launches = []
    for faults_left in range(times, 0, -1):
        launch = story.start()
        launches.append(launch)
        assert story.wait_in_training(faults_left), launch.tail()
        # Its loader workers stay for some seconds and must hold nothing.
        os.kill(launch.pid, signal.SIGKILL)
        launch.end()
        story.check()
    outcome = story.finish()
    for launch in launches:
        launch.assert_no_orphans(10)
    return times, f'free at once, {outcome}'


CASES = [
    Case(
        'second run in a work directory',
        RECIPE.name,
        partial(second_run, 1),
        6,
    ),
    Case(
        'second run, of two processes',
        RECIPE.name,
        partial(second_run, 2),
        6,
    ),
    Case('two runs started together', RECIPE.name, at_once),
    Case(
        'kill -9 of the owner alone',
        recipes.MID_EPOCH.name,
        partial(owner_killed, 4),
        4,
    ),
]


@pytest.mark.parametrize('case', CASES, ids=str)
def test_one_run_per_folder(case, run_case):
    run_case(case)
