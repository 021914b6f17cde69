"""Label budgets: fine-tuning with a share of the labelled images."""

from __future__ import annotations

import random
from pathlib import Path

from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write
from reproduction.plan import Plan
from reproduction.run_dir import RunDir
from reproduction.runs import Run, load_silently

KEY = 'train_dataloader.dataset.ann_file'


def draw(names: list[str], share: float, seed: int) -> list[str]:
    """Draw a share of names, at least one.

    With the same seed, a smaller share is part of a larger one. The result
    does not depend on the order of the names.

    Example:
        >>> draw(['a', 'b', 'c', 'd'], 0.5, seed=0)
        ['c', 'a']
    """
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return order[: max(round(share * len(order)), 1)]


def list_file(run_dir: RunDir) -> Path:
    """Return the file with the names of a fine-tuning's labelled images."""
    return run_dir.path / 'labels.txt'


def write_list(plan: Plan, run: Run, run_dir: RunDir) -> None:
    """Draw a fine-tuning's labelled images, and write their names to a file.

    Raises:
        UserError: If its config does not use a text file of image names.
    """
    cfg = load_silently(run.config, plan.with_roots(run.options))
    dataset = cfg.train_dataloader.dataset
    file = dataset.get('ann_file') or ''
    path = Path(dataset.get('data_root') or '', file)
    if not file.endswith('.txt') or not path.is_file():
        raise UserError(
            f'{run.config} with a share of the labels (labels: {run.labels} '
            f"in the plan): {KEY} must be a text file of image names, as VOC's"
            f' ImageSets/Segmentation/train.txt, but is {str(path)!r}.'
        )
    # A name may have spaces, as in the data sets of OpenMMLab.
    lines = path.read_text(encoding='utf-8').splitlines()
    names = [line.strip() for line in lines if line.strip()]
    names = draw(names, run.labels, run.seed)
    text = ''.join(f'{name}\n' for name in sorted(names))
    atomic_write(list_file(run_dir), text.encode())
