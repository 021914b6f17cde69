"""Config files with overrides that cannot get lost."""

import difflib
import inspect
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from pixcon_mm.errors import UserError

# Read from the config by MMEngine beside the Runner's own arguments.
EXTRA_KEYS = {
    'compile',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and override some of it.

    Overriding a variable of the file, as in ``data_root=/images``, also
    reaches the places that took their value from it: every nested key of
    that name which held the old value.

    Args:
        path (str): Config file.
        options (dict, optional): New values by dotted key.

    Raises:
        UserError: If there is no such file, or an option names nothing in
            it.
    """
    if not Path(path).is_file():
        raise UserError(f'There is no config file {path!r}.{_similar(path)}')
    cfg = Config.fromfile(path)
    options = options or {}
    for key in options:
        _check_key(cfg, key, options)
    for key, value in options.items():
        if '.' not in key and key in cfg:
            _replace(cfg._cfg_dict, key, cfg[key], value)
    cfg.merge_from_dict(options)
    return cfg


def _similar(path: str) -> str:
    folder = Path(path).parent
    files = [str(file) for file in folder.glob('*.py')]
    match = difflib.get_close_matches(path, files, n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def _check_key(cfg: Config, key: str, options: dict[str, Any]) -> None:
    """Stop at an option that would silently change nothing."""
    node, names = cfg._cfg_dict, key.split('.')
    for depth, name in enumerate(names):
        here = '.'.join(names[: depth + 1])
        if isinstance(node, list | tuple):
            if not name.isdigit() or int(name) >= len(node):
                raise UserError(
                    f'--cfg-options {key}: {here!r} is no entry of a list '
                    f'of {len(node)}.'
                )
            node = node[int(name)]
            continue
        if not isinstance(node, dict):
            raise UserError(
                f'--cfg-options {key}: {".".join(names[:depth])!r} is '
                f'{node!r} in the config and has no keys.'
            )
        if name not in node:
            is_new_argument = depth == len(names) - 1 and depth > 0
            is_new_object = depth > 0 and f'{here}.type' in options
            if is_new_argument or is_new_object or here in _runner_keys():
                return
            known = [*node, *(_runner_keys() if depth == 0 else ())]
            match = difflib.get_close_matches(name, known, n=1)
            hint = f' Did you mean {match[0]!r}?' if match else ''
            raise UserError(
                f'--cfg-options {key}: the config has no {here!r}.{hint}'
            )
        node = node[name]


def _runner_keys() -> set[str]:
    return {*inspect.signature(Runner).parameters, *EXTRA_KEYS}


def _replace(node: Any, name: str, old: Any, new: Any) -> None:
    """Give nested keys of a name that held the old value the new one."""
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in list(children):
        if key == name and child == old:
            node[key] = new
        elif isinstance(child, dict | list):
            _replace(child, name, old, new)
