"""Variables at the top of config files, and the keys that take their values.

MMEngine evaluates a recipe before a file that builds on it, and before the
options of the command line, so the recipe has already used a variable that
these change. The keys that got their values from the variables in
``PASSED_ON`` are changed with them:

- nested keys of the variable's name with its old value;
- for ``crop_size``, also the size of the data preprocessor;
- for ``data_root``, also all paths below the old one;
- for ``classes``, what :mod:`pixcon_mm.classes` lists.
"""

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from pixcon_mm.classes import as_names, replace_names

PASSED_ON = {
    'classes',
    'crop_size',
    'data_root',
    'mask_values',
    'padding_mode',
}
# Keys of a config that MMEngine reads beside the arguments of Runner.
EXTRA_KEYS = {
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}
# MMSegmentation's inference_model reads this key, and not that of a loader.
INFERENCE_KEY = 'test_pipeline'


def changed_variables(
    path: str, read: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Any, bool]]:
    """Find variables that a config file sets and a file it builds on has used.

    All files that it builds on are searched for such variables as well.

    Args:
        path (str): The config file.
        read (frozenset[str]): Variables that files which build on it read.

    Yields:
        tuple: Name of the variable; its value in the file below; whether a
        file above that one reads it and so may have used the new value.
    """
    own, own_read = _variables(path)
    read |= own_read
    for base in Config._get_base_files(path):
        file = Config._get_cfg_path(base, path)[0]
        yield from changed_variables(file, read)
        # In a dumped config, or in YAML, nothing reads a data_root, although
        # its keys have the value.
        names = own & (_read_below(file) | PASSED_ON) - runner_keys()
        values = Config.fromfile(file) if names else {}
        for name in sorted(names & {*values}):
            yield name, values[name], name in read


def unused_names(path: str) -> set[str]:
    """Return the names that a config file sets and does not read itself.

    Keys of the runner, and variables of the files that it builds on, are left
    out.
    """
    own, read = _variables(path)
    unused = own - read - runner_keys()
    for base in Config._get_base_files(path) if unused else ():
        unused -= {*Config.fromfile(Config._get_cfg_path(base, path)[0])}
    return unused


def _read_below(path: str) -> set[str]:
    """Return the variables that a file, and those it builds on, read."""
    found = {*_variables(path)[1]}
    for base in Config._get_base_files(path):
        found |= _read_below(Config._get_cfg_path(base, path)[0])
    return found


def _variables(path: str) -> tuple[set[str], frozenset[str]]:
    """Return the names that a file sets at its top, and those that it reads.

    Names that it reads from a base, as in ``_base_.classes``, are included.
    """
    if not path.endswith('.py'):  # JSON and YAML only set keys
        return {*Config._file2dict(path)[0]}, frozenset()
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    own = {
        node.id
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            read.add(node.id)
        elif isinstance(node, ast.Attribute):
            read.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            read.add(node.value)  # as in _base_['classes']
    return own, frozenset(read)


def runner_keys() -> set[str]:
    """Return the top-level keys that the runner reads."""
    return {*inspect.signature(Runner).parameters, *EXTRA_KEYS}


def pass_on(cfg: Config, name: str, old: Any) -> bool:
    """Copy a variable's new value to the keys that have its old value.

    Args:
        cfg (Config): The config, with the new value.
        name (str): The variable, one of ``PASSED_ON``.
        old (Any): Its old value.

    Returns:
        bool: True if a key was changed, or if the value is the old one.
    """
    if name == 'classes':
        cfg.classes = as_names(cfg.classes)
        replace_names(cfg, as_names(old))
        return True
    new = cfg[name]
    if new == old:
        return True
    places = _places(cfg, lambda x: type(x) is type(old) and x == old)
    names = {name}
    if name == 'crop_size' and isinstance(old, list | tuple):
        names.add('size')  # of the data preprocessor
    reached = [(node, key) for node, key, _ in places if key in names]
    for node, key in reached:
        node[key] = copy.deepcopy(new)
    is_folder = name == 'data_root' and old and isinstance(old, str)
    if is_folder and isinstance(new, str):
        folder, target = (f'{root.rstrip("/")}/' for root in (old, new))
        # If the new folder lies in the old one, paths in it have been changed.
        changed = target if target.startswith(folder) else None
        below = _places(
            cfg,
            lambda x: (
                isinstance(x, str)
                and x.startswith(folder)
                and x != old
                and not (changed and f'{x}/'.startswith(changed))
            ),
        )
        for node, key, _ in below:
            node[key] = target + node[key].removeprefix(folder)
            reached.append((node, key))
    return bool(reached)


def is_lost(cfg: Config, name: str, old: Any) -> bool:
    """Check if a new value that nothing has read should replace an old one.

    An old list, tuple or dict may be gone, because another change has
    replaced it, too.
    """
    if cfg[name] == old:
        return False
    is_container = isinstance(old, dict | list | tuple)
    return not is_container or any(_places(cfg, lambda value: value == old))


def advise(cfg: Config, name: str, old: Any) -> str:
    """Return what to do instead of a change that has no effect."""
    places = _places(cfg, lambda x: type(x) is type(old) and x == old)
    paths = ', '.join(sorted(path for _, _, path in places)[:3])
    return (
        'the config has already used its variable '
        f'{name!r} to compute other keys; override those instead'
        f'{f" (these have the same value: {paths})" if paths else ""}.'
    )


def _places(
    cfg: Config, matches: Callable[[Any], bool]
) -> Iterator[tuple[Any, Any, str]]:
    """Find values that match, in the keys that runner and inference read.

    Yields:
        tuple: The dict or list with the value, the key or index of the value
        in it, and the dotted key.
    """
    read = {*runner_keys(), INFERENCE_KEY} & {*cfg}
    nodes = [(key, cfg._cfg_dict[key]) for key in read]
    while nodes:
        path, node = nodes.pop()
        if not isinstance(node, dict | list):
            continue
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in list(children):
            if matches(child):
                yield node, key, f'{path}.{key}'
            else:
                nodes.append((f'{path}.{key}', child))
