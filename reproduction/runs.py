"""From a plan to its runs, with what each of them needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixcon_mm.errors import UserError
from reproduction.plan import Plan


@dataclass(frozen=True)
class Run:
    """One command: a pre-training, a fine-tuning or a test.

    Args:
        name (str): ``pretrain/METHOD-SET-seedN``,
            ``finetune/BENCHMARK/START-seedN`` or
            ``test/BENCHMARK/START-seedN``; its folder below the work dir.
        config (str): Config file.
        options (dict): Overrides of it; ``{data}`` stands for a root.
        seed (int): Of all that is random.
        gpus (int): Processes, a GPU each; 0 for one process.
        data (tuple[str, ...]): Names in the plan's data.
        before (Run, optional): The run whose checkpoint it starts from.
        weights (str, optional): ``none`` or ``torchvision``, where a
            fine-tuning starts without a pre-training.
    """

    name: str
    config: str
    options: dict[str, Any]
    seed: int
    gpus: int
    data: tuple[str, ...]
    before: Run | None = None
    weights: str | None = None

    @property
    def needs(self) -> str | None:
        """Name of the run whose checkpoint it starts from."""
        return self.before and self.before.name

    @property
    def kind(self) -> str:
        """``pretrain``, ``finetune`` or ``test``."""
        return self.name.partition('/')[0]


@dataclass(frozen=True)
class Start:
    """Where the fine-tunings of a row start: a method on a set."""

    method: str
    set: str | None  # None for given weights

    @property
    def name(self) -> str:
        """For names of runs."""
        return self.method if self.set is None else f'{self.method}-{self.set}'


def starts(plan: Plan, table: str) -> list[Start]:
    """The rows of a table, in order."""
    found = []
    for rows in plan.tables[table].rows:
        for method in rows.methods:
            given = plan.methods[method].weights is not None
            for part in [None] if given else rows.sets:
                start = Start(method, part)
                if start not in found:
                    found.append(start)
    return found


def pretrain_seed(plan: Plan, seed: int) -> int:
    """Which pre-training the fine-tuning of a seed starts from."""
    return seed if seed in plan.pretrain_seeds else plan.pretrain_seeds[0]


def runs_of(plan: Plan) -> dict[str, Run]:
    """All runs of a plan, by name; each after what it needs.

    A run that several tables want is there once.

    Raises:
        UserError: If two different runs would have one name.
    """
    runs: dict[str, Run] = {}
    for table in plan.tables:
        for start in starts(plan, table):
            for seed in plan.seeds:
                for benchmark in plan.tables[table].benchmarks:
                    for run in chain(plan, start, benchmark, seed):
                        if runs.setdefault(run.name, run) != run:
                            raise UserError(
                                f'Two different runs of the plan are called '
                                f'{run.name}: rename a method or a '
                                'pre-training set.'
                            )
    # All pre-trainings first: most of the rest waits for them.
    order = ('pretrain', 'finetune', 'test')
    return dict(
        sorted(runs.items(), key=lambda item: order.index(item[1].kind))
    )


def chain(plan: Plan, start: Start, benchmark: str, seed: int) -> list[Run]:
    """The runs behind one number: pre-training, fine-tuning, test."""
    method = plan.methods[start.method]
    bench = plan.benchmarks[benchmark]
    runs, before = [], None
    if start.set is not None:
        images = plan.pretrain_sets[start.set]
        first = pretrain_seed(plan, seed)
        before = Run(
            name=f'pretrain/{start.name}-seed{first}',
            config=method.config,
            options={**method.options, **images.options},
            seed=first,
            gpus=method.gpus,
            data=tuple(images.data),
        )
        runs.append(before)
    common = dict(
        config=bench.config,
        options=bench.options,
        seed=seed,
        gpus=bench.gpus,
        data=tuple(bench.data),
    )
    where = f'{benchmark}/{start.name}-seed{seed}'
    finetune = Run(
        name=f'finetune/{where}',
        before=before,
        weights=method.weights,
        **common,
    )
    test = Run(name=f'test/{where}', before=finetune, **common)
    return [*runs, finetune, test]


def with_roots(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    """Options with the roots of the plan's data put in.

    Example:
        >>> from types import SimpleNamespace as N
        >>> plan = N(data=dict(coco=N(root='/images/coco')))
        >>> with_roots(plan, {'data_root': '{coco}/train2017/'})
        {'data_root': '/images/coco/train2017/'}
    """

    def put(value: Any) -> Any:
        if isinstance(value, list):
            return [put(v) for v in value]
        if isinstance(value, str):
            for name, data in plan.data.items():
                value = value.replace(f'{{{name}}}', data.root.rstrip('/'))
        return value

    return {key: put(value) for key, value in options.items()}
