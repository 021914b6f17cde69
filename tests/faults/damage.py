"""Damaged checkpoints: another one is used, or a sentence says why not."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from tests.faults import checkpoints, recipes
from tests.faults.cases import Case
from tests.faults.stories import KEPT, RECIPE, broken_off, resumed


def cut(share: float, path: Path) -> None:
    """Keep a share of the file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def zero_tail(path: Path) -> None:
    """Keep the length; zeros in place of what was not written to disk."""
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] + bytes(half))


def flip(place: Callable[[bytes, Path], int], path: Path) -> None:
    """Flip all bits of a byte."""
    data = bytearray(path.read_bytes())
    data[place(data, path)] ^= 0xFF
    path.write_bytes(data)


def in_largest_tensor(data: bytes, path: Path) -> int:
    """Find the middle of the largest weight."""
    weights = checkpoints.load(path)['state_dict'].values()
    content = max(weights, key=torch.numel).numpy().tobytes()
    return data.index(content) + len(content) // 2


class Trap:
    """Object that writes a file when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return exec, (f'open({str(self.witness)!r}, "w").close()',)


def trap(path: Path) -> None:
    """Make the checkpoint run code when it is unpickled carelessly."""
    content = checkpoints.load(path)
    content['meta']['trap'] = Trap(path.with_name('code-ran'))
    torch.save(content, path, pickle_module=pickle)


def newest_damaged(harm, recipe, lab, folder):
    """Check that the one before is used, with a warning."""
    work_dir, newest = broken_off(lab, folder, recipe)
    harm(newest)
    at = recipe.total - 3 * recipe.interval
    launch, outcome = resumed(lab, work_dir, at, recipe)
    assert not (work_dir / 'code-ran').exists(), 'the checkpoint ran code'
    warned = [
        line
        for line in launch.output().splitlines()
        if newest.name in line and 'WARNING' in line.upper()
    ]
    assert warned, f'no warning names {newest.name}'
    return f'warned, one before used, {outcome}'


def all_damaged(lab, folder):
    """Check for an error, not a fresh start; nothing is removed."""
    work_dir, _ = broken_off(lab, folder)
    before = sorted(work_dir.glob('*.pth'))
    assert len(before) == KEPT
    for path in before:
        cut(0.5, path)
    lab.launch(RECIPE, work_dir, '--resume').refusal()
    assert sorted(work_dir.glob('*.pth')) == before
    return 'refused with a sentence, nothing removed'


def named_damaged(lab, folder):
    """Check that one that is named is never replaced by another."""
    work_dir, newest = broken_off(lab, folder)
    flip(in_largest_tensor, newest)
    launch = lab.launch(RECIPE, work_dir, '--resume', str(newest))
    launch.refusal(newest.name)
    return 'refused with a sentence'


HARMS = {
    'cut in the middle': partial(cut, 0.5),
    'half of it zeros': zero_tail,
    'byte flipped in the largest tensor': partial(flip, in_largest_tensor),
    'code in the pickle': trap,
}
CASES = [
    *(
        Case(
            f'newest checkpoint: {name}',
            recipe.name,
            partial(newest_damaged, HARMS[name], recipe),
        )
        for recipe, names in (
            (RECIPE, HARMS),
            (recipes.TWO_BY_EPOCH, ['cut in the middle']),
            (recipes.DETECTION, ['byte flipped in the largest tensor']),
        )
        for name in names
    ),
    Case('all checkpoints damaged', RECIPE.name, all_damaged, KEPT),
    Case('named checkpoint damaged', RECIPE.name, named_damaged),
]
