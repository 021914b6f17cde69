"""What a run was asked for, so that it can be told from another one."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
from typing import Any

from mmengine.config import Config, DictAction

from pixcon_mm.config import load_config, runner_keys
from pixcon_mm.errors import UserError
from reproduction.runs import Run

# Where a run writes and how it feeds its device: the result does not depend
# on them. (Neither on the number of processes: the total batch is the
# recipe's, and so are its statistics where there is SyncBN.)
IMMATERIAL = {
    'default_hooks.logger',
    'default_hooks.checkpoint',
    'default_hooks.progress_bar',
    'default_hooks.timer',
    'env_cfg',
    'launcher',
    'log_level',
    'log_processor',
    'resume',
    'vis_backends',
    'visualizer',
    'work_dir',
    'model_wrapper_cfg',
    'randomness.seed',  # the run's own counts
    'train_cfg.val_begin',  # there is no validation in between
    'train_cfg.val_interval',
}
IMMATERIAL_LEAVES = {'num_workers', 'persistent_workers', 'pin_memory'}
Settings = dict[str, Any]


def settings_of(run: Run) -> Settings:
    """All settings that the result of a run depends on.

    Args:
        run (Run): Its options still have placeholders for the roots of data,
            so that moving the data changes nothing.

    Returns:
        dict: Values by dotted key, as JSON has them.
    """
    flat = {
        key: value
        for key, value in _config_settings(run.config, json.dumps(run.options))
        if concerns(run.kind, key)
    }
    flat['seed'] = run.seed
    if run.before:
        # What it starts from is what that was asked for, not just a name.
        before = settings_of(run.before)
        flat.update({f'start.{key}': value for key, value in before.items()})
    elif run.weights:
        flat['start'] = run.weights
    return flat


def read_configs_anew() -> None:
    """Forget what config files held: they may have been edited."""
    _config_settings.cache_clear()


def concerns(kind: str, key: str) -> bool:
    """Whether a run's result depends on a setting.

    So another way to test makes no fine-tuning stale, only its test.

    Example:
        >>> concerns('finetune', 'test_evaluator.type')
        False
    """
    if kind == 'test':
        return key.startswith(('model.', 'test_'))
    return not key.startswith(('val_', 'test_'))


@functools.cache
def _config_settings(path: str, options: str) -> tuple[tuple[str, Any], ...]:
    cfg = load_silently(path, json.loads(options))
    known = runner_keys()
    content = {k: v for k, v in cfg._cfg_dict.items() if k in known}
    return tuple(sorted(flatten(content).items()))


def load_silently(path: str, options: dict[str, Any]) -> Config:
    """Load a config; what it imports says nothing."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return load_config(path, options)
    except UserError as error:
        raise UserError(f'{error} (in the plan: {path})') from error
    finally:
        logging.disable(logging.NOTSET)


def flatten(node: Any, path: str = '') -> Settings:
    """Material leaves of a config, by dotted key.

    Example:
        >>> flatten(dict(model=dict(depth=50, strides=(1, 2)), resume=True))
        {'model.depth': 50, 'model.strides': [1, 2]}
    """
    name = path.rpartition('.')[2]
    if path in IMMATERIAL or name in IMMATERIAL_LEAVES:
        return {}
    is_list = isinstance(node, list | tuple)
    if is_list and not any(isinstance(x, dict | list | tuple) for x in node):
        return {path: [_plain(x) for x in node]}
    if is_list or isinstance(node, dict):
        children = enumerate(node) if is_list else node.items()
        flat: Settings = {}
        for key, child in children:
            flat.update(flatten(child, f'{path}.{key}' if path else str(key)))
        return flat or {path: {} if isinstance(node, dict) else []}
    return {path: _plain(node)}


def _plain(value: Any) -> Any:
    """A leaf as JSON has it."""
    is_json = value is None or isinstance(value, bool | int | float | str)
    return value if is_json else str(value)


def difference(old: Settings, new: Settings) -> str:
    """What has changed, in words; '' if nothing.

    Example:
        >>> difference({'seed': 0, 'lr': 0.1}, {'seed': 1, 'wd': 0})
        'lr was 0.1, is gone; seed was 0, is 1; wd is new: 0'
    """
    parts = []
    for key in sorted({*old, *new}):
        if key not in new:
            parts.append(f'{key} was {old[key]!r}, is gone')
        elif key not in old:
            parts.append(f'{key} is new: {new[key]!r}')
        elif old[key] != new[key]:
            parts.append(f'{key} was {old[key]!r}, is {new[key]!r}')
    shown = parts[:3]
    if len(parts) > 3:
        shown.append(f'and {len(parts) - 3} more')
    return '; '.join(shown)


def as_arguments(options: dict[str, Any]) -> list[str]:
    """Options as --cfg-options takes them.

    Raises:
        UserError: If a value would arrive as another.

    Example:
        >>> as_arguments({'a.b': None, 'c': [1, 'x'], 'd': '/images'})
        ['a.b=None', 'c=[1,x]', 'd=/images']
    """
    arguments = []
    for key, value in options.items():
        text = _as_text(value)
        if DictAction._parse_iterable(text) != value:
            raise UserError(
                f'The option {key}: {value!r} of the plan cannot be given on '
                'a command line, where MMEngine takes no spaces, quotes, '
                'dicts or commas within words: put it into a config of its '
                'own, or link the folder under another name.'
            )
        arguments.append(f'{key}={text}')
    return arguments


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return f'[{",".join(map(_as_text, value))}]'
    return str(value)
