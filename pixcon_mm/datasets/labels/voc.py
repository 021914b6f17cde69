"""A look at VOC's XML files: names and boxes of objects."""

import os
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field

from pixcon_mm.datasets.labels.findings import (
    Findings,
    counted,
    image_size,
    listed,
    missing_files,
    part,
    spread,
    with_bar,
)
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


@dataclass
class _Tally:
    """Counts over all files, with the first place of each oddity."""

    names: Counter = field(default_factory=Counter)
    used: int = 0
    kinds: Counter = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    empty: int = 0

    def add(self, kind: str, where: str) -> None:
        self.kinds[kind] += 1
        self.first.setdefault(kind, where)


def look_at_voc(source: Source, find: Findings) -> None:
    """Look at all XML files of a list, and at the sizes of some images.

    Args:
        source (Source): A data set that reads VOC's XML.
        find (Findings): Receives what is found.

    Raises:
        UserError: For what ends the look: files that are missing or cannot
            be read.
    """
    dataset = source.dataset
    with open(dataset.ann_file) as file:
        ids = file.read().splitlines()
    if isinstance(dataset._indices, int):
        end = dataset._indices
        ids = ids[:end] if end > 0 else ids[end:]
    root, name = dataset.sub_data_root, as_line(dataset.ann_file)
    names = [f'{i}.jpg' for i in ids]
    if hasattr(dataset, 'image_names'):  # our XMLFolderDataset
        names = dataset.image_names(ids)
    images = [os.path.join(root, dataset.img_subdir, n) for n in names]
    files = [os.path.join(root, dataset.ann_subdir, f'{i}.xml') for i in ids]
    find.saw([dataset.ann_file, *files])
    find.saw({os.path.dirname(path) for path in images})
    if not ids:
        raise UserError(f'{name} is empty: list an image a line.')
    _look_for_files(files, 'XML file', name)
    _look_for_files(images, 'image', name)
    tally = _Tally()
    sampled = {*spread(range(len(ids)), source.sample)}
    find.saw(images[i] for i in sampled)
    pairs = zip(files, images, strict=True)
    for i, (path, image) in enumerate(with_bar(pairs, len(ids), 'XML files')):
        _look_at_file(path, image if i in sampled else None, source, tally)
    _report_names(tally, source, name, find)
    _report_boxes(tally, source, name, find)
    find.note(
        f'{name}: {counted(len(ids), "image")}, '
        f'{counted(tally.used, "object")}; {tally.empty:,} without objects.'
    )


def _look_for_files(paths: list[str], what: str, name: str) -> None:
    missing = missing_files(paths)
    if missing:
        first = next(path for path in paths if path in missing)
        stem = os.path.splitext(first)[0]
        suffixes = ('.png', '.jpeg', '.JPG', '.JPEG', '.XML')
        other = [s for s in suffixes if os.path.exists(stem + s)]
        hint = (
            f' There is {as_line(stem + other[0])}, and the data set takes '
            f'{os.path.splitext(first)[1]} only.'
            if other
            else ''
        )
        raise UserError(
            f'{name}: {part(len(missing), len(paths), what, ("is", "are"))} '
            f'not there (the first: {as_line(first)}).{hint} Put them there, '
            'or take them out of the list.'
        )


def _look_at_file(
    path: str, image: str | None, source: Source, tally: _Tally
) -> None:
    where = as_line(path)
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise UserError(
            f'{where} is no whole XML ({error}): write it again.'
        ) from error
    width, height = _size(root, where)
    if image is not None:
        try:
            size = image_size(image)
        except OSError as error:
            raise UserError(
                f'{as_line(image)} cannot be read as an image ({error}): '
                'replace it, or take it out of the data set.'
            ) from error
        if width is not None and size != (width, height):
            sizes = f'{width} x {height}, the image {size[0]} x {size[1]}'
            tally.add('size', f'{where}, {sizes}')
        width, height = size
    used = 0
    for node in root.findall('object'):
        name, box = _object(node, where)
        tally.names[name] += 1
        if name not in source.classes:
            continue
        used += 1
        place = f'{where}, {name!r} {box}'
        if box[2] <= box[0] or box[3] <= box[1]:
            tally.add('flat', place)
        elif min(box[:2]) < 0 or (
            width is not None
            and height is not None
            and (box[2] > width + 1 or box[3] > height + 1)
        ):
            tally.add('outside', f'{place} in {width} x {height}')
        elif min(box[:2]) == 0:
            tally.add('zero', place)
    tally.used += used
    tally.empty += not used


def _size(root: ET.Element, where: str) -> tuple[int | None, int | None]:
    size = root.find('size')
    if size is None:
        return None, None  # the data set opens the image
    try:
        return int(size.findtext('width', '')), int(
            size.findtext('height', '')
        )
    except ValueError as error:
        raise UserError(
            f'{where} has a size without whole numbers for width and height: '
            'write them, or take the size out.'
        ) from error


def _object(node: ET.Element, where: str) -> tuple[str, list[int]]:
    name, box = node.findtext('name'), node.find('bndbox')
    try:
        corners = [int(float(box.findtext(key, ''))) for key in CORNERS]  # type: ignore[union-attr]
    except (AttributeError, ValueError, OverflowError) as error:
        raise UserError(
            f'{where}: the object {name!r} has no bndbox with numbers for '
            'xmin, ymin, xmax and ymax: correct it.'
        ) from error
    if not name:
        raise UserError(f'{where}: an object has no name: correct it.')
    return name, corners


def _report_names(
    tally: _Tally, source: Source, name: str, find: Findings
) -> None:
    classes = source.classes
    others = [n for n in tally.names if n not in classes]
    both = (
        f'names of the files: {listed(tally.names)}; class names of the '
        f'config: {listed(classes)}'
    )
    if tally.names and not tally.used:
        raise UserError(
            f'{name}: no object has one of the class names, so nothing would '
            f'be learned or scored. In the {both}.'
        )
    if not tally.used:
        is_certain = source.trains and source.dataset._indices is None
        tell = find.stop if is_certain else find.warn
        tell(f'{name}: its XML files have no object.')
    if others:
        lost = sum(tally.names[n] for n in others)
        total = sum(tally.names.values())
        find.warn(
            f'{name}: {part(lost, total, "object", ("is", "are"))} left out, '
            f'as no class has the name: {listed(others)}. In the {both}.'
        )
    find.present = [n for n in classes if n in tally.names]


def _report_boxes(
    tally: _Tally, source: Source, name: str, find: Findings
) -> None:
    sentences = dict(
        flat=(
            ('has no area', 'have no area'),
            'a loss would be infinite: correct or remove them',
        ),
        outside=(
            ('lies partly outside', 'lie partly outside'),
            'correct them',
        ),
        zero=(
            ('starts at 0', 'start at 0'),
            "VOC's boxes count from 1, and the data set takes 1 from each "
            'corner, so these are one pixel off: add 1',
        ),
    )
    for kind, (verb, advice) in sentences.items():
        if tally.kinds[kind]:
            is_certain = kind == 'flat' and source.trains
            tell = find.stop if is_certain else find.warn
            count = part(tally.kinds[kind], tally.used, 'box', verb)
            tell(
                f'{name}: {count} (the first: {tally.first[kind]}): {advice}.'
            )
    if tally.kinds['size']:
        find.warn(
            f'{name}: {counted(tally.kinds["size"], "XML file")} of those '
            'compared with their image '
            f'{"states" if tally.kinds["size"] == 1 else "state"} another '
            f'size (the first: {tally.first["size"]}), so boxes may not fit: '
            'annotate the images as they are.'
        )
