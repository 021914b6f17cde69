"""Plan of runs in a YAML file: methods, data sets, benchmarks and seeds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pixcon_mm.config import parse_value
from pixcon_mm.errors import UserError, suggest
from reproduction.frozen import check_arguments


def _check_unique(seeds: list[int]) -> list[int]:
    if len({*seeds}) < len(seeds):
        raise ValueError(f'a seed is listed twice: {seeds}')
    return seeds


def _check_sbatch_value(value: Any) -> Any:
    is_line = not isinstance(value, str) or re.fullmatch(LINE, value)
    if not isinstance(value, str | int | float | None) or not is_line:
        raise ValueError(
            f'{value!r} is not a value for sbatch: use one line of text in '
            'quotes, a number, true, false or null'
        )
    return value


LINE = r'^[^\x00-\x1f\x7f-\x9f]*$'  # text without control characters
Name = Annotated[str, Field(pattern='^[a-z0-9][a-z0-9_.+-]*$')]  # of folders
SbatchKey = Annotated[str, Field(pattern='^[a-z][a-z-]*$')]
SbatchValue = Annotated[Any, AfterValidator(_check_sbatch_value)]
Count = Annotated[int, Field(ge=0)]
Seeds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**32)]],
    Field(min_length=1),
    AfterValidator(_check_unique),
]
Options = dict[str, Any]  # overrides of a config; {name} is a root of data
# Beginnings of options that a run sets itself, and what to do instead.
TAKEN = {
    'randomness': 'each run sets its seed; use seeds and pretrain_seeds',
    'train_dataloader.batch_size': 'each run shares its total batch among its '
    'processes; set auto_scale_lr.base_batch_size',
}


class Section(BaseModel):
    """A part of a plan, in which unknown keys are errors."""

    model_config = ConfigDict(extra='forbid', strict=True, frozen=True)


class Data(Section):
    """A tree of files that runs read."""

    root: str
    files: dict[str, Count]  # number of files by pattern below the root
    make: str | None = None  # command of this repository that makes the files
    hint: str | None = None  # source of the files, for a message


class PretrainSet(Section):
    """Images to pre-train on."""

    title: str  # in tables and in the file of published numbers
    data: list[str]  # names in the plan's data
    options: Options = {}


class Method(Section):
    """A source of a backbone's weights: a pre-training or existing weights."""

    title: str  # in tables and in the file of published numbers
    config: str | None = None
    weights: Literal['none', 'torchvision'] | None = None  # none: random
    options: Options = {}
    gpus: Count = 0  # processes with a GPU each; 0: one process on any device
    # For the tables, if the method has existing weights:
    pretrain_set: str = '-'  # title
    epochs: int | None = None

    @model_validator(mode='after')
    def _check_source(self) -> Method:
        if (self.config is None) == (self.weights is None):
            raise ValueError(
                'it takes either a config to pre-train with, or weights: '
                'none or torchvision'
            )
        if self.weights and (self.options or self.gpus):
            raise ValueError(
                'it has existing weights and no training: options and gpus do '
                'not apply'
            )
        if self.config and (self.epochs or self.pretrain_set != '-'):
            raise ValueError(
                'epochs and pretrain_set describe existing weights; those of '
                'a pre-training come from its config and the table'
            )
        return self


class Metric(Section):
    """A column of a table."""

    title: str
    scale: float = 1.0  # factor from the evaluator's number to percent
    published: str | None = None  # name in the file of published numbers


class Benchmark(Section):
    """A fine-tuning and its test, or an evaluation of frozen features."""

    title: str
    # A published number is shown only if its protocol is the same text.
    protocol: str
    config: str  # config of the fine-tuning; with evaluate, of the backbone
    metrics: dict[str, Metric]  # by their name in the evaluator
    data: list[str]  # names in the plan's data
    options: Options = {}
    # Options of tools/evaluate_dense.py, which replaces the fine-tuning.
    evaluate: Options | None = None
    # Share of the labelled images to fine-tune with, drawn by the seed.
    labels: Annotated[float, Field(gt=0, lt=1)] | None = None
    gpus: Count = 0  # as for a method
    published: str | None = None  # name in the file of published numbers

    @model_validator(mode='after')
    def _check_kind(self) -> Benchmark:
        if self.evaluate is None:
            return self
        if self.options or self.labels is not None or self.gpus > 1:
            raise ValueError(
                'with evaluate it has no fine-tuning: options and labels do '
                'not apply, and it uses one GPU at most'
            )
        check_arguments(self.evaluate)
        return self


class RowGroup(Section):
    """Rows of a table: each method on each pre-training set."""

    methods: list[str]
    pretrain_sets: list[str]


class TablePlan(Section):
    """A table: its rows, and its benchmarks as columns."""

    title: str
    rows: list[RowGroup]
    benchmarks: list[str]
    # Methods of its rows that the others are compared with, seed by seed.
    compare: list[str] = []


class Plan(Section):
    """All sections of a plan."""

    title: str
    # Folder of runs and tables. A backslash is refused, because it would turn
    # off Slurm's %j in the name of a job's log.
    work_dir: Annotated[str, Field(pattern=r'^[^\\\x00-\x1f\x7f-\x9f]*$')]
    # Seeds of fine-tunings and evaluations. They start from the pre-training
    # of the same seed, or of the first seed if there is none.
    seeds: Seeds
    pretrain_seeds: Seeds
    data: dict[Name, Data]
    pretrain_sets: dict[Name, PretrainSet]
    methods: dict[Name, Method]
    benchmarks: dict[Name, Benchmark]
    tables: dict[Name, TablePlan]
    published: str | None = None  # CSV file of published numbers
    # Options of sbatch for every job; null removes a default.
    slurm: dict[SbatchKey, SbatchValue] = {}

    @model_validator(mode='after')
    def _check_references(self) -> Plan:
        for section in ('pretrain_sets', 'methods', 'benchmarks'):
            for name, item in getattr(self, section).items():
                frozen = getattr(item, 'evaluate', None) or {}
                values = [*item.options.values(), *frozen.values()]
                roots = re.findall(r'{(.*?)}', str(values))
                data = [*getattr(item, 'data', ()), *roots]
                self._check_known(f'{section}: {name}', 'data', data)
                self.arguments(item.options)  # raises an error if impossible
                for key in item.options:
                    for taken, advice in TAKEN.items():
                        if key.startswith(taken):
                            raise ValueError(
                                f'{section}: {name}: options: {key}: {advice}'
                            )
        for name, table in self.tables.items():
            where = f'tables: {name}'
            self._check_known(where, 'benchmarks', table.benchmarks)
            for group in table.rows:
                self._check_known(where, 'methods', group.methods)
                self._check_known(where, 'pretrain_sets', group.pretrain_sets)
            methods = {name for group in table.rows for name in group.methods}
            self._check_known(where, 'methods', table.compare)
            absent = [name for name in table.compare if name not in methods]
            if absent:
                raise ValueError(
                    f'{where}: compare: {absent[0]} has no row in the table'
                )
        return self

    def _check_known(self, where: str, section: str, names: list[str]) -> None:
        known = getattr(self, section)
        for name in names:
            if name not in known:
                raise ValueError(
                    f'{where}: there is no {name!r} in {section}.'
                    f'{suggest(name, list(known))}'
                )

    def arguments(self, options: Options) -> list[str]:
        """Return options as arguments of ``--cfg-options``."""
        arguments = []
        for key, value in self.with_roots(options).items():
            # Lists need no quotes, and no spaces between their items. Spaces
            # within a word stay.
            texts = [re.sub(part, '', str(value)) for part in ("[' ]", "'")]
            exact = [text for text in texts if parse_value(text) == value]
            if not exact:
                raise ValueError(
                    f'the option {key}: {value!r} cannot be written on a '
                    'command line, which takes no quotes, no dicts, no commas '
                    'within words, and no text that looks like a number: put '
                    'it into a config of its own, or link the folder under '
                    'another name'
                )
            arguments.append(f'{key}={exact[0]}')
        return arguments

    def with_roots(self, value: Any) -> Any:
        """Return options with the roots of data in place of their names."""
        if isinstance(value, dict):
            return {k: self.with_roots(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.with_roots(v) for v in value]
        if isinstance(value, str):
            for name, data in self.data.items():
                value = value.replace(f'{{{name}}}', data.root.rstrip('/'))
        return value


class StrictLoader(yaml.SafeLoader):
    """YAML loader that rejects duplicate keys and keeps times as text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False):
        keys = [key.value for key, _ in node.value if key.value != '<<']
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    problem=f'the key {key!r} appears twice',
                    problem_mark=node.start_mark,
                )
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int | str:
        # YAML 1.1 reads 24:00:00 as the number 86,400.
        text = self.construct_scalar(node)
        return text if ':' in text else super().construct_yaml_int(node)


StrictLoader.add_constructor(
    'tag:yaml.org,2002:int', StrictLoader.construct_yaml_int
)


def read_plan(path: str | Path) -> Plan:
    """Read and check a plan.

    Raises:
        UserError: If the plan is wrong; the message names the place in it.
    """
    path = Path(path)
    if not path.is_file():
        plans = [str(p) for p in path.parent.glob('*.yaml')]
        raise UserError(
            f'There is no plan {str(path)!r}.{suggest(str(path), plans)}'
        )
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'Plan {path} cannot be read: {error}') from error
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise UserError(f'{path}: {mistakes(error)}') from error


def mistakes(error: ValidationError) -> str:
    """Describe the errors that pydantic has found, and their places."""
    return '; '.join(map(_mistake, error.errors()))


def _mistake(error: Any) -> str:
    place = [str(part) for part in error['loc'] if part != '[key]']
    if error['type'] == 'extra_forbidden':
        key = place.pop()
        sections = [Plan, *Section.__subclasses__()]
        known = [name for cls in sections for name in cls.model_fields]
        message = f'there is no key {key!r}.{suggest(key, known)}'
    elif error['type'] == 'missing':
        message = f'the key {place.pop()!r} is missing'
    else:
        message = error['msg'].removeprefix('Value error, ')
        if error['type'] != 'value_error':
            message += f', not {error["input"]!r:.60}'
    return ': '.join([*place, message])
