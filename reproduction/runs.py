"""Runs of a plan, and the settings that their results depend on."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mmengine.config import Config

from pixcon_mm.cli import quiet
from pixcon_mm.config import load_config, runner_keys
from pixcon_mm.errors import UserError
from reproduction.plan import Options, Plan

KINDS = ('pretrain', 'evaluate', 'finetune', 'test')
SCORED = ('evaluate', 'test')  # kinds with metrics for tables
# Settings that do not change the result: where a run writes, how it loads
# images, and code that does the same faster. (The number of processes is not
# compared either: the total batch is always the recipe's, and SyncBN computes
# statistics over all of it.)
IMMATERIAL = re.compile(
    r'default_hooks\.(logger|checkpoint|timer)'
    '|env_cfg|launcher|log_level|log_processor|model_wrapper_cfg|resume'
    '|runner_type|vis_backends|visualizer|work_dir'
    r'|randomness\.seed'  # the run's seed replaces it
    r'|train_cfg\.(val_begin|val_interval)'  # runs have no validation
    r'|.+\.(num_workers|persistent_workers|pin_memory|compile_colors)'
)
Settings = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A pre-training, a fine-tuning, its test, or an evaluation."""

    kind: Literal['pretrain', 'evaluate', 'finetune', 'test']
    method: str  # name in the plan
    pretrain_set: str | None  # name in the plan; None with existing weights
    benchmark: str | None  # name in the plan; None for a pre-training
    seed: int
    config: str
    options: Options  # overrides of the config
    gpus: int  # processes with a GPU each; 0 for one process on any device
    data: list[str]  # names in the plan
    parent: Run | None = None  # run whose checkpoint this run starts from
    weights: str | None = None  # 'none' or 'torchvision', without a parent
    evaluate: Options | None = None  # options of an evaluation
    labels: float | None = None  # share of the labels of a fine-tuning

    @property
    def name(self) -> str:
        """Name and relative path, ``KIND/[BENCHMARK/]METHOD[-SET]-seedN``."""
        backbone = backbone_name(self.method, self.pretrain_set)
        parts = [self.kind, self.benchmark, f'{backbone}-seed{self.seed}']
        return '/'.join(filter(None, parts))

    @property
    def pretraining(self) -> Run | None:
        """Pre-training of the weights; None with existing weights."""
        if self.kind == 'pretrain':
            return self
        return self.parent.pretraining if self.parent else None


def backbone_name(method: str, pretrain_set: str | None) -> str:
    """Join the names of a method and, if any, of a pre-training set."""
    return '-'.join(filter(None, [method, pretrain_set]))


def table_rows(plan: Plan, table: str) -> list[tuple[str, str | None]]:
    """List method and pre-training set of each row of a table, in order."""
    rows = {
        (method, pretrain_set): None
        for group in plan.tables[table].rows
        for method in group.methods
        for pretrain_set in (
            [None] if plan.methods[method].weights else group.pretrain_sets
        )
    }
    return list(rows)


def runs_of(plan: Plan) -> dict[str, Run]:
    """List all runs of a plan by name; parents come before their children.

    Raises:
        UserError: If two different runs would have the same name.
    """
    runs: dict[str, Run] = {}
    for name, table in plan.tables.items():
        for row in table_rows(plan, name):
            for seed in plan.seeds:
                for benchmark in table.benchmarks:
                    for run in _chain(plan, *row, benchmark, seed):
                        if runs.setdefault(run.name, run) != run:
                            raise UserError(
                                'Two different runs of the plan are called '
                                f'{run.name}: rename a method or a '
                                'pre-training set.'
                            )
    # Pre-trainings come first, because most other runs wait for them.
    ordered = sorted(runs.values(), key=lambda run: KINDS.index(run.kind))
    return {run.name: run for run in ordered}


def _chain(
    plan: Plan, method: str, pretrain_set: str | None, name: str, seed: int
) -> list[Run]:
    """List the runs that give the scores of one row, benchmark and seed.

    They are the pre-training, unless the method has existing weights, and then
    a fine-tuning and its test or an evaluation of frozen features.
    """
    source, benchmark = plan.methods[method], plan.benchmarks[name]
    backbone = dict(method=method, pretrain_set=pretrain_set)
    runs: list[Run] = []
    if pretrain_set is not None:
        chosen = plan.pretrain_sets[pretrain_set]
        has_own = seed in plan.pretrain_seeds
        pretrain = Run(
            kind='pretrain',
            benchmark=None,
            seed=seed if has_own else plan.pretrain_seeds[0],
            config=source.config,
            options={**source.options, **chosen.options},
            gpus=source.gpus,
            data=chosen.data,
            **backbone,
        )
        runs.append(pretrain)
    is_frozen = benchmark.evaluate is not None
    for kind in ('evaluate',) if is_frozen else ('finetune', 'test'):
        run = Run(
            kind=kind,
            benchmark=name,
            seed=seed,
            config=benchmark.config,
            options=benchmark.options,
            gpus=benchmark.gpus,
            data=benchmark.data,
            parent=runs[-1] if runs else None,
            weights=source.weights if kind != 'test' else None,
            evaluate=benchmark.evaluate,
            labels=benchmark.labels if kind == 'finetune' else None,
            **backbone,
        )
        runs.append(run)
    return runs


def select(runs: Iterable[Run], **fields: Any) -> list[Run]:
    """Select the runs with these values of their fields."""
    return [
        run
        for run in runs
        if all(getattr(run, key) == value for key, value in fields.items())
    ]


def select_scored(
    runs: Iterable[Run], benchmark: str | None = None
) -> list[Run]:
    """Select the runs with metrics for tables, of one benchmark or of all."""
    return [
        run
        for run in runs
        if run.kind in SCORED and benchmark in (None, run.benchmark)
    ]


def settings_of(run: Run) -> Settings:
    """Collect all settings that the result of a run depends on.

    Options keep their placeholders for the roots of data, so that a run stays
    valid if its data are moved. The keys of its parent's settings begin with
    the parent's kind.
    """
    all_settings = _config_settings(run.config, json.dumps(run.options))
    settings = {k: v for k, v in all_settings if concerns(run.kind, k)}
    settings['seed'] = run.seed
    if run.labels is not None:
        settings['labels'] = run.labels
    for key, value in (run.evaluate or {}).items():
        if key not in ('device', 'workers'):  # do not change the result
            settings[f'evaluate.{key}'] = value
    if run.parent:
        for key, value in settings_of(run.parent).items():
            settings[f'{run.parent.kind}.{key}'] = value
    elif run.weights:
        settings['weights'] = run.weights
    return settings


def concerns(kind: str, key: str) -> bool:
    """Check if the result of a kind of run depends on a setting.

    For instance, a change of ``test_dataloader`` makes a test stale, but not
    its fine-tuning.
    """
    if kind == 'test':
        return key.startswith(('model.', 'test_'))
    if kind == 'evaluate':
        return key.startswith(('model.backbone.', 'model.data_preprocessor.'))
    return not key.startswith(('val_', 'test_'))


@functools.cache
def _config_settings(path: str, options: str) -> tuple[tuple[str, Any], ...]:
    cfg = load_silently(path, json.loads(options))
    known = runner_keys()
    content = {k: v for k, v in cfg._cfg_dict.items() if k in known}
    return tuple(sorted(flatten(content).items()))


# Must be called after configs may have been edited.
forget_configs = _config_settings.cache_clear


def load_silently(path: str, options: Options) -> Config:
    """Load a config without the output of what it imports."""
    try:
        with quiet():
            return load_config(path, options)
    except UserError as error:
        raise UserError(f'{error} (in the plan: {path})') from error


def flatten(node: Any, path: str = '') -> Settings:
    """List a config's values by dotted key, without ``IMMATERIAL`` keys.

    Example:
        >>> flatten(dict(model=dict(depth=50, strides=(1, 2)), resume=True))
        {'model.depth': 50, 'model.strides': [1, 2]}
    """
    if IMMATERIAL.fullmatch(path):
        return {}
    if isinstance(node, list | tuple):
        if not any(isinstance(x, dict | list | tuple) for x in node):
            return {path: [_as_json(x) for x in node]}
        node = {str(index): child for index, child in enumerate(node)}
    if not isinstance(node, dict):
        return {path: _as_json(node)}
    leaves: Settings = {}
    for key, child in node.items():
        leaves.update(flatten(child, f'{path}.{key}' if path else key))
    return leaves or {path: {}}


def _as_json(value: Any) -> Any:
    is_json = value is None or isinstance(value, bool | int | float | str)
    return value if is_json else str(value)


def difference(old: Settings, new: Settings) -> str:
    """Describe the differences of settings; an empty string if none.

    Example:
        >>> difference({'seed': 0, 'lr': 0.1}, {'seed': 1, 'wd': 0})
        'lr was 0.1, is not set; seed was 0, is 1; wd was not set, is 0'
    """
    changes = [
        f'{key} was {_shown(old, key)}, is {_shown(new, key)}'
        for key in sorted({*old, *new})
        if old.get(key, ...) != new.get(key, ...)
    ]
    if len(changes) > 3:
        changes[3:] = [f'and {len(changes) - 3} more']
    return '; '.join(changes)


def backbone_difference(run: Run) -> str:
    """Describe how the backbone of an evaluation differs from its parent's.

    Tensors of the same shapes fit either, so nothing else notices, for
    instance, another padding. The class of batch norms makes no difference.
    """
    if run.kind != 'evaluate' or run.parent is None:
        return ''
    own, trained = (
        {
            key: value
            for key, value in settings_of(part).items()
            if key.startswith('model.backbone.')
            and key != 'model.backbone.norm_cfg.type'
        }
        for part in (run, run.parent)
    )
    return difference(trained, own)


def _shown(settings: Settings, key: str) -> str:
    return repr(settings[key]) if key in settings else 'not set'
