"""Check of COCO-style JSON: categories, ids and images."""

import difflib
import os
import shlex
from collections import Counter
from typing import Any

import numpy as np

from pixcon_mm.datasets.labels.coco_file import (
    ABSENT,
    ANNOTATION_KEYS,
    LISTS,
    CocoAnnotation,
    CocoCategory,
    CocoFile,
    read_coco,
)
from pixcon_mm.datasets.labels.coco_objects import (
    check_boxes,
    check_segmentations,
)
from pixcon_mm.datasets.labels.images import read_sizes
from pixcon_mm.datasets.labels.report import NOTE, STOP, WARNING, Report
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.datasets.listing import missing_files, spread
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.wording import counted, listed, share


def check_coco(source: Source, report: Report) -> None:
    """Check a file of annotations, and the images that it names.

    What MMDetection's ``CocoDataset`` leaves out silently (boxes outside the
    image or of no area, other categories) is counted; what it cannot read
    stops the run.

    Args:
        source (Source): A data set that reads COCO-style JSON.
        report (Report): Receives the findings.

    Raises:
        UserError: If the rest of the file cannot be checked.
    """
    path = source.dataset.ann_file
    report.name = as_line(path)
    report.depends_on([path])
    # pycocotools needs to know about crowds when it scores.
    scored = () if source.trains else ('iscrowd',)
    content = read_coco(path, ANNOTATION_KEYS + scored)
    images, annotations = content.images, content.annotations
    if source.trains and not annotations:
        raise UserError(
            f"{report.name} is empty: its list 'annotations' has no entry."
        )
    sizes = np.array([(i.width, i.height) for i in images], float)
    for i in np.flatnonzero((sizes <= 0).any(1)):
        raise UserError(
            f'{report.name}: image id {images[i].id} has width '
            f'{images[i].width!r} and height {images[i].height!r}: write its '
            'size in pixels.'
        )
    report.add_cases(
        WARNING,
        [a for a in annotations if a.iscrowd is ABSENT],
        len(annotations),
        'annotation',
        "has no 'iscrowd'",
        'each counts as a single object, and the file cannot be used to '
        'validate or test',
        lambda a: f'id {a.id}',
    )
    _check_ids(content, report)
    if not source.trains:
        _check_scored_ids(annotations, report)
    labels = _match_categories(content.categories, source.classes, report)
    if not labels:
        return  # what follows would name every annotation
    index = {image.id: i for i, image in enumerate(images)}
    rows = np.array([index.get(a.image_id, -1) for a in annotations], int)
    _check_references(content, rows, report)
    is_used = (rows >= 0) & np.array(
        [a.category_id in labels and not a.ignore for a in annotations], bool
    )
    is_kept = is_used & check_boxes(annotations, sizes[rows], is_used, report)
    if source.needs_masks:
        # pycocotools also draws what the data set leaves out.
        drawn = np.flatnonzero(is_kept if source.trains else is_used)
        check_segmentations(
            [annotations[i] for i in drawn],
            sizes[rows[drawn]].astype(int),
            source.trains,
            report,
        )
    if source.trains and not is_kept.any():
        report.add(
            STOP,
            'nothing to learn from: every annotation is left out, for the '
            'reasons above.',
        )
    present = {annotations[i].category_id for i in np.flatnonzero(is_kept)}
    report.present = [label for key, label in labels.items() if key in present]
    has_object = np.bincount(rows[is_kept], minlength=len(images)) > 0
    _check_images(content, sizes, has_object, source, report)
    is_single = is_kept & np.array([not a.iscrowd for a in annotations], bool)
    has_single = np.bincount(rows[is_single], minlength=len(images)) > 0
    report.add(
        NOTE,
        f'{counted(len(images), "image")}, '
        f'{counted(int(is_kept.sum()), "annotation")}; '
        f'{counted(int((~has_object).sum()), "image")} without objects, '
        f'{int((has_object & ~has_single).sum()):,} with crowds only.',
    )


def _check_ids(content: CocoFile, report: Report) -> None:
    """Report ids that several entries have: all but one would be lost."""
    for key in LISTS:
        counts = Counter(entry.id for entry in getattr(content, key))
        doubles = [number for number, count in counts.items() if count > 1]
        if doubles:
            what = 'category' if key == 'categories' else key[:-1]
            report.add(
                STOP,
                f'{counted(len(doubles), f"{what} id")} '
                f'{"are" if len(doubles) > 1 else "is"} given more than once '
                f'(id {doubles[0]}: {counts[doubles[0]]} times): give each of '
                f'{key!r} a number of its own, and change what refers to it.',
            )
    names = Counter(c.name for c in content.categories)
    for name, count in names.items():
        if count > 1:
            report.add(
                STOP,
                f'{count} categories have the name {name!r}, which shifts '
                'the numbers of all that follow: merge them.',
            )


def _check_scored_ids(
    annotations: list[CocoAnnotation], report: Report
) -> None:
    """Report ids that pycocotools cannot keep, or takes for no object.

    It notes the ids of matched objects in an array of floats, where 0 means
    that a detection has no match.
    """
    ids = [a.id for a in annotations]
    report.add_cases(
        STOP,
        [i for i in ids if isinstance(i, str) and not i.isdecimal()],
        len(ids),
        'annotation',
        'has a text as id',
        'pycocotools cannot score it, so number them from 1',
        repr,
    )
    report.add_cases(
        WARNING,
        [i for i in ids if i in (0, '0')],
        len(ids),
        'annotation',
        'has the id 0',
        'pycocotools counts every detection of this object as wrong, so '
        'number them from 1',
    )


def _match_categories(
    categories: list[CocoCategory], classes: tuple[str, ...], report: Report
) -> dict[Any, str]:
    """Compare categories and class names; return the name by id.

    MMDetection numbers the categories that have a class name in the order of
    the file, so that a name too many, or another order, would put
    predictions under wrong names.
    """
    names = [c.name for c in categories]
    others = [n for n in names if n not in classes]
    absent = [n for n in classes if n not in names]
    similar = _similar(absent, names)
    own = [*dict.fromkeys(names)]  # names twice are another finding
    ordered = [n for n in own if n in classes]
    problem = ''
    if not ordered:
        problem = (
            'no category has one of the class names, so nothing would be '
            'learned or scored'
        )
    elif absent:
        problem = (
            f'no category has the class {"names" if absent[1:] else "name"} '
            f'{listed(absent)}, and predictions would be drawn under wrong '
            'names'
        )
        own = [n for n in own if n in (*classes, *similar.values())]
    elif ordered != [*classes]:
        problem = (
            'the categories are in another order than the class names, and '
            'MMDetection numbers them as the file does, so predictions would '
            'be drawn under wrong names; all files need the same order'
        )
        own = ordered
    if problem:
        is_it = ''.join(
            f' Is {name!r} the {match!r} of the file?'
            for name, match in [*similar.items()][:1]
        )
        option = f'--cfg-options {shlex.quote("classes=" + ",".join(own))}'
        if any(',' in name for name in own):
            option = f'classes = {tuple(own)!r} in a config'
        report.add(
            STOP,
            f'{problem}.{is_it} In the categories of the file: '
            f'{listed(names)}; class names of the config: {listed(classes)}. '
            f'To take the names of the file: {option}',
        )
    elif others:
        count = share(len(others), len(names), 'category', 'is left out')
        report.add(
            NOTE, f'{count}, as no class has the name: {listed(others)}.'
        )
    return {c.id: c.name for c in categories if c.name in classes}


def _similar(absent: list[str], names: list[Any]) -> dict[str, Any]:
    """Find categories whose names differ a little from class names."""
    folded = {str(n).strip().lower(): n for n in names}
    found = {}
    for wanted in absent:
        match = difflib.get_close_matches(wanted.strip().lower(), folded, n=1)
        if match:
            found[wanted] = folded[match[0]]
    return found


def _check_references(
    content: CocoFile, rows: np.ndarray, report: Report
) -> None:
    """Report annotations of images or categories that are not listed."""
    annotations = content.annotations
    known = {c.id for c in content.categories}
    unknown = [a for a in annotations if a.category_id not in known]
    hint = ''
    if any(a.category_id in (0, '0') for a in unknown):
        hint = ' (it may count from 0, and the categories from 1)'
    report.add_cases(
        STOP,
        unknown,
        len(annotations),
        'annotation',
        'has the "category_id" of no category',
        f'such objects would be left out, so correct "category_id"{hint}, or '
        'add the categories',
        lambda a: f'id {a.id}, category_id {a.category_id!r}',
    )
    strangers = np.flatnonzero(rows < 0)
    report.add_cases(
        STOP if 0 < len(strangers) == len(annotations) else WARNING,
        strangers,
        len(annotations),
        'annotation',
        'belongs to images that the file does not list',
        'correct "image_id", or add the images',
        lambda i: (
            f'id {annotations[i].id}, image_id {annotations[i].image_id!r}'
        ),
    )


def _check_images(
    content: CocoFile,
    sizes: np.ndarray,
    has_object: np.ndarray,
    source: Source,
    report: Report,
) -> None:
    """Report images that are missing, damaged or of another size."""
    dataset, images = source.dataset, content.images
    folder = dataset.data_prefix.get('img', '')
    paths = [os.path.join(folder, i.file_name) for i in images]
    report.depends_on({os.path.dirname(path) for path in paths})
    skips_empty = (dataset.filter_cfg or {}).get('filter_empty_gt')
    is_read = has_object if source.trains and skips_empty else sizes[:, 0] > 0
    used = source.first(np.flatnonzero(is_read).tolist())
    missing = missing_files(paths[i] for i in used)
    report.add_cases(
        STOP,
        [i for i in used if paths[i] in missing],
        len(used),
        'image',
        'is not there',
        'put them there, or remove them from the file',
        lambda i: f'id {images[i].id}, {as_line(paths[i])}',
    )
    there = [i for i in used if paths[i] not in missing]
    opened = [there[i] for i in spread(source.sample, len(there))]
    report.depends_on(paths[i] for i in opened)
    true_sizes = read_sizes([paths[i] for i in opened], source, report)
    others = [
        '{}, {} x {} and not {:g} x {:g}'.format(
            as_line(paths[i]), *true_sizes[paths[i]], *sizes[i]
        )
        for i in opened
        if paths[i] in true_sizes and true_sizes[paths[i]] != tuple(sizes[i])
    ]
    report.add_cases(
        WARNING,
        others,
        len(opened),
        'image',
        'has another size than the file says',
        'boxes may not fit, so annotate the images as they are, or scale the '
        'boxes',
    )
