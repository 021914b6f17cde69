"""A hook that writes down the losses of every process."""

import json
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RecordLossHook(Hook):
    """Appends the losses of each iteration to ``losses-RANK.jsonl``."""

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Write one line."""
        losses = {name: value.item() for name, value in outputs.items()}
        path = Path(runner.work_dir) / f'losses-{runner.rank}.jsonl'
        with path.open('a') as file:
            file.write(json.dumps(losses) + '\n')


def losses(work_dir: Path) -> list[dict[str, float]]:
    """Losses of each iteration, the mean over all processes."""
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
