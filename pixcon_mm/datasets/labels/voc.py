"""Check of VOC's XML files: names and boxes of objects."""

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pixcon_mm.datasets.labels.images import Size, read_names, read_sizes
from pixcon_mm.datasets.labels.report import NOTE, STOP, WARNING, Report
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.datasets.labels.voc_file import read_voc
from pixcon_mm.datasets.listing import missing_files, spread
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.progress import with_progress
from pixcon_mm.wording import counted, listed, share

# Problems of boxes, and what to do.
FLAT, OUTSIDE, ZERO = 'has no area', 'lies partly outside', 'starts at 0'
ADVICE = {
    FLAT: 'a loss would be infinite, so correct or remove them',
    OUTSIDE: 'correct them',
    ZERO: "VOC's boxes count from 1, and the data set subtracts 1 from each "
    'corner, so these are one pixel off: add 1',
}


@dataclass
class _Objects:
    """Objects of all files."""

    names: Counter = field(default_factory=Counter)
    difficult: Counter = field(default_factory=Counter)
    used: int = 0
    empty: int = 0
    problems: dict = field(default_factory=lambda: defaultdict(list))
    sizes: list = field(default_factory=list)


def check_voc(source: Source, report: Report) -> None:
    """Check all XML files of a list, and the sizes of some images.

    Args:
        source (Source): A data set that reads VOC's XML.
        report (Report): Receives the findings.

    Raises:
        UserError: If the rest cannot be checked.
    """
    dataset = source.dataset
    report.name = as_line(dataset.ann_file)
    ids = source.first(read_names(dataset.ann_file))
    # Other data sets than XMLFolderDataset read .jpg alone.
    by_name: dict[str, str] = getattr(dataset, 'find_images', dict)()
    names = [by_name.get(i, f'{i}.jpg') for i in ids]
    root = dataset.sub_data_root
    images = [os.path.join(root, dataset.img_subdir, n) for n in names]
    files = [os.path.join(root, dataset.ann_subdir, f'{i}.xml') for i in ids]
    report.depends_on([dataset.ann_file, *files])
    report.depends_on({os.path.dirname(path) for path in images})
    if not ids:
        raise UserError(f'{report.name} is empty: list one image per line.')
    report.add_repeated(ids)
    _check_files(files, 'XML file', report)
    _check_files(images, 'image', report)
    opened = [images[i] for i in spread(source.sample, len(ids))]
    report.depends_on(opened)
    sizes = read_sizes([*dict.fromkeys(opened)], source, report)
    found = _Objects()
    for path, image in zip(
        with_progress(files, len(files), 'XML files'), images, strict=True
    ):
        _read(path, sizes.get(image), source, found)
    _report_names(found, source, report)
    for problem, boxes in found.problems.items():
        is_certain = problem == FLAT and source.trains
        report.add_cases(
            STOP if is_certain else WARNING,
            boxes,
            found.used,
            'box',
            problem,
            ADVICE[problem],
        )
    report.add_cases(
        WARNING,
        found.sizes,
        len(opened),
        'XML file',
        'states another size than the image has',
        'boxes may not fit, so annotate the images as they are',
    )
    report.add(
        NOTE,
        f'{counted(len(ids), "image")}, {counted(found.used, "object")} '
        f'({found.difficult.total():,} marked difficult); '
        f'{found.empty:,} without objects.',
    )


def _check_files(paths: list[str], what: str, report: Report) -> None:
    """Stop at missing files."""
    missing = missing_files(paths)
    if not missing:
        return
    first = next(path for path in paths if path in missing)
    stem, suffix = os.path.splitext(first)
    suffixes = ('.png', '.jpeg', '.JPG', '.JPEG', '.XML')
    other = [s for s in suffixes if os.path.exists(stem + s)]
    hint = (
        f' There is {as_line(stem + other[0])}, and the data set takes '
        f'{suffix} only.'
        if other
        else ''
    )
    raise UserError(
        f'{report.name}: '
        f'{share(len(missing), len(paths), what, "is not there")} (the first: '
        f'{as_line(first)}).{hint} Put them there, or remove them from the '
        'list.'
    )


def _read(
    path: str, true_size: Size | None, source: Source, found: _Objects
) -> None:
    """Read the objects of a file; compare its size with its image's."""
    where, (size, objects) = as_line(path), read_voc(path)
    if true_size is not None:
        if size and size != true_size:
            sizes = '{} x {}, the image {} x {}'.format(*size, *true_size)
            found.sizes.append(f'{where}, {sizes}')
        size = true_size
    used = 0
    for name, corners, is_difficult in objects:
        box = [int(corner) for corner in corners]  # as in MMDetection
        found.names[name] += 1
        if name in source.classes:
            used += 1
            found.difficult[name] += is_difficult
            problem = _problem(box, size)
            if problem:
                text = f'{where}, {name!r} {box}'
                text += ' in {} x {}'.format(*size) if size else ''
                found.problems[problem].append(text)
    found.used += used
    found.empty += not used


def _problem(box: list[int], size: tuple[int, int] | None) -> str | None:
    """Return what is wrong with a box (xmin, ymin, xmax, ymax)."""
    if box[2] <= box[0] or box[3] <= box[1]:
        return FLAT
    is_beyond = size and (box[2] > size[0] + 1 or box[3] > size[1] + 1)
    if min(box[:2]) < 0 or is_beyond:
        return OUTSIDE
    return ZERO if min(box[:2]) == 0 else None


def _report_names(found: _Objects, source: Source, report: Report) -> None:
    """Compare the names in the files with the class names."""
    names, classes = found.names, source.classes
    others = [name for name in names if name not in classes]
    lists = (
        f'In the names of the files: {listed(names)}; class names of the '
        f'config: {listed(classes)}.'
    )
    if names and not found.used:
        raise UserError(
            f'{report.name}: no object has one of the class names, so nothing '
            f'would be learned or scored. {lists}'
        )
    is_certain = source.trains and source.dataset._indices is None
    level = STOP if is_certain else WARNING
    if not found.used:
        report.add(level, 'its XML files have no object.')
    elif found.difficult.total() == found.used:
        report.add(
            level,
            'all objects are marked difficult, and MMDetection neither learns '
            'nor scores such objects: write <difficult>0</difficult> for '
            'those that count.',
        )
    if others:
        lost = sum(names[name] for name in others)
        count = share(lost, names.total(), 'object', 'is left out')
        report.add(
            WARNING,
            f'{count}, as no class has the name: {listed(others)}. {lists}',
        )
    report.present = [n for n in classes if names[n] > found.difficult[n]]
