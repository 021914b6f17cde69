"""Read a plan from its file, and check it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import yaml

from pixcon_mm.errors import UserError, suggest
from reproduction.plan import (
    Benchmark,
    Data,
    Method,
    Metric,
    Plan,
    PretrainSet,
    Rows,
    TablePlan,
)
from reproduction.sbatch import directive

# Weights that need no pre-training of the plan.
GIVEN = ('none', 'torchvision')


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key that is there twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False):
        """A mapping; see :class:`yaml.SafeLoader`."""
        keys = [key.value for key, _ in node.value if key.value != '<<']
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f'the key {key!r} is there twice',
                    node.start_mark,
                )
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int | str:
        """Read a number; 24:00:00 is a time, not YAML 1.1's 86,400."""
        text = self.construct_scalar(node)
        return text if ':' in text else super().construct_yaml_int(node)


StrictLoader.add_constructor(
    'tag:yaml.org,2002:int', StrictLoader.construct_yaml_int
)


def read_plan(path: str | Path) -> Plan:
    """Read a plan and check that it holds together.

    Args:
        path (str | Path): YAML file with the keys of :class:`Plan`.

    Raises:
        UserError: With the place in the file and what is wrong there.
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
    plan = _build(Plan, content, str(path))
    _check_names(plan, str(path))
    _check_slurm(plan, str(path))
    return plan


def _build(cls: type, content: Any, where: str) -> Any:
    """A dataclass from a mapping, with its nested dataclasses."""
    if not isinstance(content, dict):
        raise UserError(f'{where}: expected keys with values, not {content!r}')
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in content:
        if key not in fields:
            raise UserError(
                f'{where} has a key {key!r} that means nothing there.'
                f'{suggest(str(key), list(fields))}'
            )
    values = {}
    for name, spec in fields.items():
        if name in content:
            here = f'{where}: {name}'
            values[name] = _value(str(spec.type), content[name], here)
        elif (
            spec.default is dataclasses.MISSING
            and spec.default_factory is dataclasses.MISSING
        ):
            raise UserError(f'{where} lacks the key {name!r}.')
    return cls(**values)


def _value(kind: str, value: Any, where: str) -> Any:
    """A value checked against the annotation of its field."""
    if kind.endswith(' | None'):
        return None if value is None else _value(kind[:-7], value, where)
    nested = re.match(r'(dict|list)\[(?:str, )?(\w+)\]', kind)
    if nested:
        container, inner = nested.groups()
        if container == 'list':
            _expect(isinstance(value, list), 'a list', value, where)
            return [_value(inner, v, where) for v in value]
        _expect(isinstance(value, dict), 'keys with values', value, where)
        return {
            str(k): _value(inner, v, f'{where}: {k}') for k, v in value.items()
        }
    if kind in CLASSES:
        return _build(CLASSES[kind], value, where)
    if kind == 'str':
        # YAML reads a bare none, yes or 1x as it likes.
        _expect(isinstance(value, str), 'a word or sentence', value, where)
    elif kind == 'int':
        good = isinstance(value, int) and not isinstance(value, bool)
        _expect(good and value >= 0, 'a whole number from 0', value, where)
    elif kind == 'float':
        good = isinstance(value, int | float) and not isinstance(value, bool)
        _expect(good, 'a number', value, where)
    return value


def _expect(is_good: bool, what: str, value: Any, where: str) -> None:
    if not is_good:
        raise UserError(f'{where}: expected {what}, not {value!r}.')


CLASSES = {
    c.__name__: c
    for c in (Data, PretrainSet, Method, Metric, Benchmark, Rows, TablePlan)
}


def _check_slurm(plan: Plan, path: str) -> None:
    """Check that every option can be written into a job script."""
    for key, value in plan.slurm.items():
        try:
            # None takes out an option that a job has otherwise.
            directive(key, True if value is None else value)
        except UserError as error:
            raise UserError(f'{path}: {error}') from error


def _check_names(plan: Plan, path: str) -> None:
    """Every name that is used is defined, and can be a folder's."""
    for kind in ('data', 'pretrain_sets', 'methods', 'benchmarks', 'tables'):
        for name in getattr(plan, kind):
            if not re.fullmatch(r'[a-z0-9][a-z0-9_.+-]*', name):
                raise UserError(
                    f'{path}: {kind}: {name!r} becomes part of a path: use '
                    'small letters, digits and -_.+ only.'
                )
    if not plan.seeds or not plan.pretrain_seeds:
        raise UserError(
            f'{path}: seeds and pretrain_seeds need one seed each.'
        )
    for seeds in (plan.seeds, plan.pretrain_seeds):
        if len({*seeds}) < len(seeds):
            raise UserError(f'{path}: the seeds {seeds} name one twice.')
        if max(seeds) >= 2**32:
            raise UserError(
                f'{path}: a seed is below 2**32, not {max(seeds)}.'
            )
    for name, method in plan.methods.items():
        if (method.config is None) == (method.weights is None):
            raise UserError(
                f'{path}: methods: {name} takes either a config to pre-train '
                f'with, or weights: {" or ".join(GIVEN)}.'
            )
        if method.weights not in (None, *GIVEN):
            raise UserError(
                f'{path}: methods: {name}: weights are {" or ".join(GIVEN)}, '
                f'not {method.weights!r}.'
            )
    for kind in ('pretrain_sets', 'methods', 'benchmarks'):
        for name, part in getattr(plan, kind).items():
            for root in re.findall(
                r'\{(.*?)\}', str(list(part.options.values()))
            ):
                if root not in plan.data:
                    raise UserError(
                        f'{path}: {kind}: {name}: there is no {root!r} in '
                        f'data.{suggest(root, list(plan.data))}'
                    )
    used = [
        (f'{kind}: {name}', 'data', part.data)
        for kind in ('pretrain_sets', 'benchmarks')
        for name, part in getattr(plan, kind).items()
    ]
    for name, table in plan.tables.items():
        here = f'tables: {name}'
        used.append((here, 'benchmarks', table.benchmarks))
        for rows in table.rows:
            used.append((here, 'methods', rows.methods))
            used.append((here, 'pretrain_sets', rows.sets))
    for where, kind, names in used:
        known = getattr(plan, kind)
        for name in names:
            if name not in known:
                raise UserError(
                    f'{path}: {where}: there is no {name!r} in {kind}.'
                    f'{suggest(name, list(known))}'
                )
