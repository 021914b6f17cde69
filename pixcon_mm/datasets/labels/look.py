"""A look at the labels of all data sets of a config, with a cache."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from pixcon_mm.datasets.labels.coco import look_at_coco
from pixcon_mm.datasets.labels.findings import (
    NOTE,
    STOP,
    WARNING,
    Findings,
    any_size,
    counted,
    listed,
    state_of,
)
from pixcon_mm.datasets.labels.masks import look_at_masks
from pixcon_mm.datasets.labels.sources import Source, find_sources
from pixcon_mm.datasets.labels.voc import look_at_voc
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line, whole_file

LOOKS: dict[str, Callable[[Source, Findings], None]] = dict(
    coco=look_at_coco, voc=look_at_voc, masks=look_at_masks
)
SAMPLE = 500  # masks, or images whose size is compared


def check_labels(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Look at the labels that a run needs: print what is odd, stop at faults.

    Args:
        cfg (Config): Config whose framework has been imported.
        loaders (tuple[str, ...]): Names of the loaders that will be used.

    Raises:
        UserError: With the first sentence about what makes the run fail.
    """
    found = look_at(cfg, loaders)
    for level, sentence in found:
        if level != STOP:
            prefix = 'warning: ' if level == WARNING else 'labels: '
            stream = sys.stderr if level == WARNING else sys.stdout
            print(f'{prefix}{sentence}', file=stream)
    stops = [sentence for level, sentence in found if level == STOP]
    if stops:
        more = len(stops) - 1
        rest = f' ({more} more)' if more else ''
        raise UserError(
            f'{stops[0]}\nAll findings{rest}: python tools/check_data.py '
            f'{cfg.filename}, with the same --cfg-options. To start without '
            'this look: --no-label-check.'
        )


def look_at(
    cfg: Config, loaders: tuple[str, ...], everything: bool = False
) -> list[tuple[str, str]]:
    """Look at labels; return levels and sentences, each sentence once.

    Findings are cached in a folder of the user, as many runs share a data
    set: ``$PIXCON_MM_CACHE``, or else ``~/.cache/pixcon_mm``.

    Args:
        cfg (Config): Config whose framework has been imported.
        loaders (tuple[str, ...]): Names of the loaders.
        everything (bool): Open all masks and images, and not 500 of a set.
    """
    found: dict[tuple[str, str], None] = {}
    looks: list[tuple[Source, Findings]] = []
    sample = None if everything else SAMPLE
    try:
        for source in find_sources(cfg, loaders, sample):
            looks.append((source, _look_or_remember(source)))
            found.update(dict.fromkeys(looks[-1][1].found))
    except UserError as error:
        found[STOP, str(error)] = None
    for loader in loaders:
        ours = [pair for pair in looks if pair[0].loader == loader]
        if ours and not any(level == STOP for level, _ in found):
            found.update(dict.fromkeys(_absent_classes(loader, ours)))
    found.update(dict.fromkeys(_orders(looks)))
    return list(found)


def _absent_classes(
    loader: str, looks: list[tuple[Source, Findings]]
) -> Iterator[tuple[str, str]]:
    """Name the classes that occur in none of a loader's data sets."""
    present = {name for _, find in looks for name in find.present}
    classes = looks[0][0].classes
    never = [name for name in classes if name not in present]
    if never:
        is_whole = all(find.is_whole for _, find in looks)
        is_odd = looks[0][0].trains and is_whole
        where = '' if is_whole else ', as far as they were opened'
        yield (
            WARNING if is_odd else NOTE,
            f'{loader}: {len(never)} of {counted(len(classes), "class")} '
            f'{"has" if len(never) == 1 else "have"} no label{where}: '
            f'{listed(never)}.',
        )


def _orders(
    looks: list[tuple[Source, Findings]],
) -> Iterator[tuple[str, str]]:
    """Compare the numbers that files of annotations give to classes."""
    files = {
        tuple(find.order): as_line(source.dataset.ann_file)
        for source, find in looks
        if find.order
    }
    if len(files) < 2:
        return
    (first, here), (second, other), *_ = files.items()
    number = next(
        i for i, (a, b) in enumerate(zip_longest(first, second)) if a != b
    )
    names = [repr(n[number]) if number < len(n) else 'none' for n in files]
    yield (
        STOP,
        f'{here} and {other} disagree about the numbers of classes: class '
        f'{number} is {names[0]} in the first and {names[1]} in the second. '
        'MMDetection numbers the categories that have a class name in the '
        'order of the file: make both lists of "categories" equal.',
    )


def _look_or_remember(source: Source) -> Findings:
    """Look at a data set, unless its files are as they were last time."""
    folder = cache_folder()
    record = folder and folder / f'labels/{_digest(source)}.json'
    try:
        known = Findings(**json.loads(record.read_text() if record else ''))
        known.found = [(level, text) for level, text in known.found]
        if all(state_of(p) == state for p, state in known.files.items()):
            return known
    except (OSError, ValueError, TypeError):
        pass  # none yet, or of another version
    find = Findings()
    try:
        with any_size():
            LOOKS[source.kind](source, find)
    except UserError as error:
        find.stop(str(error))
    if not record or STOP in dict(find.found):
        # A file that could not be read may be readable next time, unchanged.
        return find
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(record) as file:
            file.write(json.dumps(asdict(find)).encode())
    except OSError:
        pass  # without room for a cache, the look is repeated
    return find


def cache_folder() -> Path | None:
    """Return the folder of what can be found out again, if there is one."""
    named = os.environ.get('PIXCON_MM_CACHE')
    try:
        return Path(named) if named else Path.home() / '.cache/pixcon_mm'
    except RuntimeError:  # a user without a home, as in many containers
        return None


def _digest(source: Source) -> str:
    """Identify a data set, its use, and the version of these modules."""
    dataset = source.dataset
    names = (
        *('ann_file', 'data_prefix', 'filter_cfg', '_indices'),
        *('img_suffix', 'seg_map_suffix', 'img_subdir', 'ann_subdir'),
        *('reduce_zero_label', 'label_map', 'ignore_index', 'mask_values'),
    )
    values = {name: getattr(dataset, name, None) for name in names}
    uses = dict(
        kind=source.kind,
        trains=source.trains,
        folder=os.getcwd(),
        classes=source.classes,
        needs_masks=source.needs_masks,
        num_classes=source.num_classes,
        sample=source.sample,
        type=type(dataset).__qualname__,
    )
    digest = hashlib.sha256(
        json.dumps({**values, **uses}, default=str, sort_keys=True).encode()
    )
    for module in sorted(Path(__file__).parent.glob('*.py')):
        digest.update(module.read_bytes())
    return digest.hexdigest()
