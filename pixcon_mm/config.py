"""Loading of config files, with overrides that always have an effect."""

import ast
import contextlib
import copy
import re
from argparse import Namespace
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from pixcon_mm.classes import as_names, find_disagreement
from pixcon_mm.config_variables import (
    PASSED_ON,
    advise,
    changed_variables,
    is_lost,
    pass_on,
    runner_keys,
    unused_names,
)
from pixcon_mm.errors import UserError, suggest
from pixcon_mm.wording import counted

# Folder of the recipes, if the package was installed from a wheel.
SHIPPED = Path(__file__).parent / '.mim/configs'
TYPO = 0.85  # least similarity of a typo, as difflib measures it


class OptionsAction(DictAction):
    """DictAction that keeps spaces inside names and paths.

    The value of ``classes`` is always a tuple of strings, also for a single
    name and for names that are numbers.
    """

    def __call__(
        self,
        parser: Any,
        namespace: Namespace,
        values: Any,
        option: Any = None,
    ) -> None:
        """Parse ``key=value`` words into a dict."""
        options = {**(getattr(namespace, self.dest) or {})}
        for word in values:
            key, text = word.split('=', maxsplit=1)
            if key == 'classes':
                options[key] = parse_names(text)
            else:
                options[key] = parse_value(text)
        setattr(namespace, self.dest, options)


def parse_names(text: str) -> tuple[str, ...]:
    """Parse class names: a Python list, or words between commas.

    Example:
        >>> parse_names("['hat, hard', 'vest']"), parse_names('a, b (c)')
        (('hat, hard', 'vest'), ('a', 'b (c)'))
    """
    if text[:1] in ('(', '['):
        with contextlib.suppress(ValueError, SyntaxError):
            names = ast.literal_eval(text)
            names = names if isinstance(names, list | tuple) else (names,)
            return tuple(map(str, names))
        depths = [*accumulate((c in '([') - (c in ')]') for c in text)]
        # Brackets around the list, not of its first name.
        if depths[-1] == 0 and 0 not in depths[:-1]:
            text = text[1:-1]
    words = [word.strip(' \'"') for word in text.split(',')]
    return tuple(filter(None, words))


def parse_value(text: str) -> Any:
    """Parse a value as MMEngine's DictAction does, but keep spaces.

    Example:
        >>> parse_value('[(1, 2), a b]'), parse_value('/my images/')
        ([(1, 2), 'a b'], '/my images/')
    """
    text = text.strip().strip('\'"')
    parts, depth = [''], 0
    for char in text:
        depth += (char in '([') - (char in ')]')
        if char == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += char
    if len(parts) > 1:
        return [parse_value(part) for part in parts if part]
    kind = {'(': tuple, '[': list}.get(text[:1])
    if kind is None or text[-1] not in ')]':
        return DictAction._parse_int_float_bool(text)
    found = parse_value(f'{text[1:-1]},')
    return kind(found)


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file, and override some of its values.

    Some variables at the top of a recipe, ``data_root`` for instance, may be
    changed on the command line or in a file that builds on the recipe; see
    :mod:`pixcon_mm.config_variables`. To change another one alone would have
    no effect, so that is an error. A list replaces a tuple as a tuple.

    Args:
        path (str): Config file, or the name of a recipe in an installed
            wheel, such as ``pixcon_r50_coco.py``.
        options (dict, optional): New values by dotted key.

    Raises:
        UserError: If the file cannot be read, if an option or a variable
            would change nothing, if an option has a number where a list
            belongs, or if parts of the config disagree about the classes.
    """
    path = _find(path)
    cfg = _evaluate(path)
    _settle_variables(cfg, path)
    options = options or {}
    for key, value in options.items():
        old = _check_key(cfg, key, options)
        if isinstance(old, tuple) and isinstance(value, list):
            options = {**options, key: tuple(value)}
        if isinstance(old, list | tuple) and type(value) in (int, float):
            raise UserError(
                f'--cfg-options {key}={value}: the config has {old} there, '
                'so write a list like that, not a number.'
            )
    names = {key.split('.')[0] for key in options} & {*cfg}
    before = copy.deepcopy({name: cfg[name] for name in names})
    cfg.merge_from_dict(options)
    for name, old in before.items():
        if name in PASSED_ON:
            has_effect = pass_on(cfg, name, old)
        else:
            has_effect = name in runner_keys() or cfg[name] == old
        if not has_effect:
            advice = advise(cfg, name, old)
            raise UserError(f'--cfg-options {name}: {advice}')
    if 'classes' in cfg:
        cfg.classes = as_names(cfg.classes)
        disagreement = find_disagreement(cfg)
        if disagreement:
            raise UserError(disagreement)
    return cfg


def _find(path: str) -> str:
    """Return the path of an existing file, or of a recipe in the wheel."""
    if Path(path).is_file():
        return path
    files = [str(file) for file in Path(path).parent.glob('*.py')]
    if Path(path).name == path:
        shipped = {
            file.name: file
            for file in SHIPPED.rglob('*.py')
            if '_base_' not in file.parts
        }
        if path in shipped:
            return str(shipped[path])
        files += shipped
    raise UserError(f'There is no config file {path!r}.{suggest(path, files)}')


def _evaluate(path: str) -> Config:
    """Evaluate a config file; its mistakes become sentences."""
    try:
        cfg = Config.fromfile(path)
        # MMEngine writes configs into logs and checkpoints. To format the text
        # each time would take seconds.
        object.__setattr__(cfg, '_format_python_code', False)
    except FileNotFoundError as error:
        name = error.filename or error  # MMEngine raises some with a sentence
        raise UserError(
            f'Config file {path!r} builds on a file that does not exist: '
            f'{name}'
        ) from error
    except ImportError as error:
        raise UserError(
            f'Config file {path!r} imports a module that fails: {error}'
        ) from error
    except (SyntaxError, OSError) as error:
        raise UserError(f'Config file {path!r}: {error}') from error
    except Exception as error:  # MMEngine runs the file
        kind = type(error).__name__
        raise UserError(
            f'Config file {path!r} cannot be evaluated: {kind}: {error}'
        ) from error
    return cfg


def _settle_variables(cfg: Config, path: str) -> None:
    """Pass on variables that a config file changes, or stop if one is lost."""
    for name in unused_names(path):
        # A variable that nothing reads may be a note, but not this one.
        if get_close_matches(name, runner_keys(), cutoff=TYPO):
            raise UserError(
                f'Config file {path!r} sets {name!r}, which nothing reads.'
                f'{suggest(name, [*runner_keys()])}'
            )
    changed = [
        change for change in changed_variables(path) if change[0] in cfg
    ]
    for name, old, is_read in changed:
        # A file that reads its crop_size has put it where it belongs.
        if name in PASSED_ON and not (name == 'crop_size' and is_read):
            pass_on(cfg, name, old)
    for name, old, is_read in changed:
        if name not in PASSED_ON and not is_read and is_lost(cfg, name, old):
            raise UserError(f'Config file {path!r}: {advise(cfg, name, old)}')


def _check_key(cfg: Config, key: str, options: dict[str, Any]) -> Any:
    """Stop if an option would silently change nothing.

    Returns:
        Any: The value that the option changes; None for a new key.
    """
    node, names = cfg._cfg_dict, key.split('.')
    if names[0] == 'data_preprocessor' and 'data_preprocessor' in (
        cfg.get('model') or ()
    ):
        raise UserError(
            f'--cfg-options {key}: the model has a data_preprocessor of its '
            f'own, so write model.{key}.'
        )
    for depth, name in enumerate(names):
        here = '.'.join(names[: depth + 1])
        if isinstance(node, list | tuple):
            if not name.isdigit() or int(name) >= len(node):
                raise UserError(
                    f'--cfg-options {key}: {here!r} does not exist: the '
                    f'list has {counted(len(node), "entry")}, numbered from 0.'
                )
            node = node[int(name)]
            continue
        if not isinstance(node, dict):
            raise UserError(
                f'--cfg-options {key}: {".".join(names[:depth])!r} is '
                f'{node!r} in the config and has no keys.'
            )
        if name not in node:
            # The constructor of an object checks the names of its arguments,
            # but nothing checks those of a plain dict.
            is_typo = 'type' not in node and any(
                re.sub(r'\d', '', name) != re.sub(r'\d', '', other)
                for other in get_close_matches(name, node, cutoff=TYPO)
            )
            is_new_argument = depth == len(names) - 1 > 0 and not is_typo
            is_new_object = depth > 0 and f'{here}.type' in options
            # The tools set these two themselves.
            readable = runner_keys() - {'cfg', 'launcher'}
            if is_new_argument or is_new_object or here in readable:
                return None
            known = [*node, *(readable if depth == 0 else ())]
            raise UserError(
                f'--cfg-options {key}: the config has no {here!r}.'
                f'{suggest(name, known)}'
            )
        node = node[name]
    return node
