"""Label check of all data sets of a config, with a cache."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

from mmengine.config import Config

from pixcon_mm.datasets.image_header import any_size
from pixcon_mm.datasets.labels.coco import check_coco
from pixcon_mm.datasets.labels.masks import check_masks
from pixcon_mm.datasets.labels.report import (
    NOTE,
    STOP,
    WARNING,
    Report,
    state_of,
)
from pixcon_mm.datasets.labels.sources import Source, find_sources
from pixcon_mm.datasets.labels.voc import check_voc
from pixcon_mm.errors import UserError
from pixcon_mm.files import whole_file
from pixcon_mm.wording import counted, listed

CHECKS: dict[str, Callable[[Source, Report], None]] = dict(
    coco=check_coco, voc=check_voc, masks=check_masks
)
SAMPLE = 500  # masks, or images whose size is compared
Checked = list[tuple[Source, Report]]


def check_labels(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Check the labels that a run needs; print warnings, stop at mistakes.

    Args:
        cfg (Config): Config whose framework has been imported.
        loaders (tuple[str, ...]): Names of the loaders that will be used.

    Raises:
        UserError: With the first sentence about what makes the run fail.
    """
    found = find_problems(cfg, loaders)
    stops = [sentence for level, sentence in found if level == STOP]
    for level, sentence in found:
        if level == WARNING:
            print(f'warning: {sentence}', file=sys.stderr)
        elif level == NOTE:
            print(f'labels: {sentence}')
    if stops:
        more = f' ({len(stops) - 1} more)' if stops[1:] else ''
        raise UserError(
            f'{stops[0]}\nAll findings{more}: python tools/check_data.py '
            f'{cfg.filename}, with the same --cfg-options. To start without '
            'the label check: --no-label-check.'
        )


def find_problems(
    cfg: Config, loaders: tuple[str, ...], everything: bool = False
) -> list[tuple[str, str]]:
    """Check labels; return levels and sentences, each sentence once.

    Findings are cached in a folder of the user, as many runs share a data
    set: ``$PIXCON_MM_CACHE``, or else ``~/.cache/pixcon_mm``.

    Args:
        cfg (Config): Config whose framework has been imported.
        loaders (tuple[str, ...]): Names of the loaders.
        everything (bool): Open all masks and decode all images, instead of
            500 masks and headers of 500 images of each set.
    """
    checked: Checked = []
    found: list[tuple[str, str]] = []
    try:
        for source in find_sources(
            cfg, loaders, None if everything else SAMPLE
        ):
            checked.append((source, _check_or_remember(source)))
            found += checked[-1][1].found
    except UserError as error:
        found.append((STOP, str(error)))
    found += _different_names([source for source, _ in checked])
    if STOP not in dict(found):
        for loader in loaders:
            found += _absent_classes(
                loader, [pair for pair in checked if pair[0].loader == loader]
            )
    return [*dict.fromkeys(found)]


def _different_names(sources: list[Source]) -> Iterator[tuple[str, str]]:
    """Compare the class names of the data sets with those of the first."""
    for source in sources[1:]:
        pairs = zip_longest(sources[0].classes, source.classes)
        for number, (name, other) in enumerate(pairs):
            if name != other:
                here, there = (
                    'absent' if n is None else repr(n) for n in (name, other)
                )
                yield (
                    STOP,
                    f'Class {number} is {here} in {sources[0].loader} and '
                    f'{there} in {source.loader}: give all data sets the same '
                    'metainfo, because a model has one list of classes.',
                )
                break


def _absent_classes(
    loader: str, checked: Checked
) -> Iterator[tuple[str, str]]:
    """Name the classes that occur in none of a loader's data sets."""
    present = {name for _, report in checked for name in report.present}
    classes = checked[0][0].classes if checked else ()
    never = [name for name in classes if name not in present]
    if never:
        is_whole = all(report.is_whole for _, report in checked)
        is_odd = checked[0][0].trains and is_whole
        where = '' if is_whole else ' in the masks that were opened'
        yield (
            WARNING if is_odd else NOTE,
            f'{loader}: {len(never)} of {counted(len(classes), "class")} '
            f'{"have" if never[1:] else "has"} no label{where}: '
            f'{listed(never)}.',
        )


def _check_or_remember(source: Source) -> Report:
    """Check a data set, unless its files are as they were last time."""
    folder = cache_folder()
    record = folder and folder / f'labels/{_digest(source)}.json'
    try:
        known = Report(**json.loads(record.read_text() if record else ''))
        known.found = [(level, text) for level, text in known.found]
        if all(state_of(p) == state for p, state in known.files.items()):
            return known
    except (OSError, ValueError, TypeError):
        pass  # none yet, or damaged
    report = Report()
    try:
        with any_size():
            CHECKS[source.kind](source, report)
    except UserError as error:
        report.found.append((STOP, str(error)))
    if not record or STOP in dict(report.found):
        # A file that could not be read may be readable next time, unchanged.
        return report
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(record) as file:
            file.write(json.dumps(asdict(report)).encode())
    except OSError:
        pass  # without room for a cache, the check is repeated
    return report


def cache_folder() -> Path | None:
    """Return the cache folder, or None for a user without a home folder."""
    named = os.environ.get('PIXCON_MM_CACHE')
    try:
        return Path(named) if named else Path.home() / '.cache/pixcon_mm'
    except RuntimeError:  # a user without a home, as in many containers
        return None


def _digest(source: Source) -> str:
    """Identify a data set, its use, and the code that reads and checks it."""
    settings = {
        **vars(source.dataset),
        **vars(source),
        'folder': os.getcwd(),
        'dataset': type(source.dataset).__qualname__,
        'pipeline': None,
    }
    text = json.dumps(settings, default=str, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for module in sorted(Path(__file__).parents[1].rglob('*.py')):
        digest.update(module.read_bytes())
    return digest.hexdigest()
