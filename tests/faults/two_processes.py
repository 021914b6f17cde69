"""Fifty steps on two processes against one process on the joined batches.

Both see the same images in each step: views are a function of seed, epoch
and index, and the sampler deals the indices out by rank. Three things would
differ by design and are not here: batch statistics, so the norms are group
norms; PixCon-SR's dense loss, which divides by the sum of the weights of each
process's own batch, so this is PixCon-Sim, whose weights are equal; and the
order of the keys within a step in the queue, which the loss only sums over.
"""

import json
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmpretrain.registry import MODELS

from pixcon_mm.models import TwoViewDataPreprocessor
from tests.faults import checkpoints, recipes
from tests.faults.cases import Case

STEPS, LENGTH, STEP_IMAGES = 50, 5, 8
GROUP_NORM = dict(type='GN', num_groups=4)
CHANGES = {
    **recipes.PIXCON,
    **recipes.by_epoch(keep=-1),
    'model.backbone.norm_cfg': GROUP_NORM,
    'model.neck.norm_cfg': GROUP_NORM,
    'model.head.norm_cfg': GROUP_NORM,
    'model.head.reweight': None,
    'model.data_preprocessor.type': 'DoubleDataPreprocessor',
    'train_cfg': dict(by_epoch=True, max_epochs=STEPS // LENGTH),
    'custom_imports.imports': [
        *('pixcon_mm', 'pixcon_mm.models', 'pixcon_mm.datasets'),
        'tests.faults.two_processes',
    ],
    'custom_hooks': [dict(type='RecordLossHook')],
}
# Of losses, and of weights and momentum over their change. Sums of another
# order differ in the last bits. Measured, in double precision: 2e-15 and
# 2e-15. Single precision would hide much: cells that match almost equally
# well change their match where blur rounds pixels in another way.
BOUNDS = (1e-13, 1e-12)


@HOOKS.register_module()
class RecordLossHook(Hook):
    """Appends the losses of each iteration to ``losses-RANK.jsonl``."""

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        losses = {name: value.item() for name, value in outputs.items()}
        path = Path(runner.work_dir) / f'losses-{runner.rank}.jsonl'
        with path.open('a') as file:
            file.write(json.dumps(losses) + '\n')


@MODELS.register_module()
class DoubleDataPreprocessor(TwoViewDataPreprocessor):
    """The pre-training's, in a process that computes in float64.

    A model builds it before its other parts.
    """

    def __init__(self, *args, **kwargs):
        torch.set_default_dtype(torch.float64)
        # Who asks for single precision by name gets double, too.
        torch.Tensor.float = torch.Tensor.double
        super().__init__(*args, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """See the base class."""
        drawn = data['data_samples']['photometrics']
        for name, value in drawn.items():
            if value.is_floating_point():
                drawn[name] = value.double()
        return super().forward(data, training)


def recipe(processes: int) -> recipes.Recipe:
    """Describe fifty steps of 8 images in all."""
    batch = STEP_IMAGES // processes
    return recipes.Recipe(
        f'PixCon-Sim with GN, {processes} x {batch}',
        recipes.DEMO,
        {**CHANGES, 'train_dataloader.batch_size': batch},
        STEPS,
        LENGTH,
        length=LENGTH,
        processes=processes,
    )


def losses(work_dir: Path) -> list[dict[str, float]]:
    """Read the losses of each iteration, the mean over all processes."""
    ranks = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(work_dir.glob('losses-*.jsonl'))
    ]
    return [
        {
            name: sum(record[name] for record in records) / len(records)
            for name in records[0]
        }
        for records in zip(*ranks, strict=True)
    ]


def compared(lab, folder):
    """Compare losses of each step, and weights and momentum at the end."""
    pair = [recipe(processes) for processes in (2, 1)]
    folders = [lab.unbroken(one).work_dir for one in pair]
    two, one = map(losses, folders)
    assert len(two) == len(one) == STEPS
    apart = max(
        abs(two[step][name] - value)
        for step in range(STEPS)
        for name, value in one[step].items()
    )
    fell = one[0]['loss'] - one[-1]['loss']
    found = checkpoints.errors(
        *(place / pair[0].last for place in folders),
        before=folders[1] / 'epoch_1.pth',
    )
    name = max(found, key=found.get)
    outcome = (
        f'losses within {apart:.1e} (they fell by {fell:.2f}), weights and '
        f'momentum within {found[name]:.1e} of their change ({name})'
    )
    assert apart < BOUNDS[0], outcome
    assert found[name] < BOUNDS[1], outcome
    return outcome


FAULT = f'{STEPS} steps, two processes against one'
CASES = [Case(FAULT, recipe(2).name, compared)]
