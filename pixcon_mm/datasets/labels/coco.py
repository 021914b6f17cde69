"""A look at COCO-style JSON: images, boxes and categories."""

import difflib
import shlex
from collections import Counter
from typing import Any

import numpy as np

from pixcon_mm.datasets.labels.coco_boxes import look_at_boxes, read_boxes
from pixcon_mm.datasets.labels.coco_file import (
    ABSENT,
    CocoAnnotation,
    CocoFile,
    CocoImage,
    read_coco,
)
from pixcon_mm.datasets.labels.coco_images import (
    look_for_images,
    read_sizes,
)
from pixcon_mm.datasets.labels.findings import (
    Findings,
    counted,
    listed,
    part,
)
from pixcon_mm.datasets.labels.segmentations import look_at_segmentations
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

HAS = ('has', 'have')
HAVE_NO = ("has no '{}'", "have no '{}'")
HAVE_A_WRONG = ("has a wrong '{}'", "have a wrong '{}'")
# Of values; numbers are expected for all other keys.
KINDS = dict(
    id=(int, float, str),
    image_id=(int, float, str),
    category_id=(int, float, str),
    iscrowd=(int, bool),
    file_name=(str,),
    name=(str,),
    bbox=(list,),
)


def look_at_coco(source: Source, find: Findings) -> None:
    """Look at a file of annotations and at the names of its images.

    What MMDetection's ``CocoDataset`` leaves out without a word (boxes
    outside the image or of no area, other categories) is counted; what it
    cannot read stops.

    Args:
        source (Source): A data set that reads COCO-style JSON.
        find (Findings): Receives what is found.

    Raises:
        UserError: For what ends the look: a file that cannot be read, or
            keys that are missing.
    """
    path = source.dataset.ann_file
    find.saw([path])
    name = as_line(path)
    content = read_coco(path)
    images, annotations = _lists(content, name, source)
    _need_keys(images, ('id', 'file_name', 'height', 'width'), name, 'image')
    needed = ['id', 'image_id', 'category_id', 'bbox', 'area']
    if not source.trains:
        needed.append('iscrowd')  # pycocotools, when it scores
    _need_keys(annotations, tuple(needed), name, 'annotation')
    _need_keys(content.categories, ('id', 'name'), name, 'category')
    if source.trains:
        _look_at_crowds(annotations, name, find)
    else:
        _look_at_scored_ids(annotations, name, find)
    sizes = read_sizes(images, name)
    _look_for_doubles(content, name, find)
    labels = _match_categories(content, source, name, find)
    index = {image.id: i for i, image in enumerate(images)}
    rows = np.array([index.get(a.image_id, -1) for a in annotations], int)
    _look_for_strangers(annotations, rows, labels, name, find)
    is_used = (rows >= 0) & np.array(
        [
            a.category_id in labels and not (a.ignore or False)
            for a in annotations
        ],
        bool,
    )
    boxes = read_boxes(annotations, name)
    is_kept = is_used & look_at_boxes(
        annotations, boxes, sizes[rows], is_used, name, find
    )
    if source.needs_masks:
        # pycocotools also draws what the data set leaves out.
        drawn = np.flatnonzero(is_kept if source.trains else is_used)
        look_at_segmentations(
            [annotations[i] for i in drawn],
            sizes[rows[drawn]].astype(int),
            source.trains,
            name,
            find,
        )
    if source.trains and annotations and not is_kept.any():
        find.stop(
            f'{name} has nothing to learn from: every annotation is left '
            'out, for the reasons above.'
        )
    present = {annotations[i].category_id for i in np.flatnonzero(is_kept)}
    find.present = [label for key, label in labels.items() if key in present]
    has_object = np.bincount(rows[is_kept], minlength=len(images)) > 0
    look_for_images(images, has_object, sizes, source, name, find)
    _summarise(annotations, rows, is_kept, has_object, name, find)


def _lists(
    content: CocoFile, name: str, source: Source
) -> tuple[list[CocoImage], list[CocoAnnotation]]:
    for key in ('images', 'annotations', 'categories'):
        if getattr(content, key) is ABSENT:
            raise UserError(
                f'{name} has no list {key!r}: COCO-style annotations have '
                '"images", "annotations" and "categories".'
            )
    needed = ['images', 'categories', *['annotations'] * source.trains]
    empty = next((key for key in needed if not getattr(content, key)), None)
    if empty:
        raise UserError(
            f'{name} is empty: its list {empty!r} has no entry. Export it '
            'again.'
        )
    return content.images, content.annotations  # type: ignore[return-value]


def _need_keys(
    entries: list, keys: tuple[str, ...], name: str, what: str
) -> None:
    """Stop at entries without a key that will be read."""
    advice = dict(
        file_name='the name of the file, as text',
        height='the height of the image in pixels',
        width='the width of the image in pixels',
        area='the area of the object in pixels',
        iscrowd='0 for single objects, 1 for crowds',
        bbox='[x, y, width, height] in pixels',
        id='a number of its own',
        name='the name of the class, as text',
    )
    for key in keys:
        known = KINDS.get(key, (int, float))
        wrong = [e for e in entries if type(getattr(e, key)) not in known]
        if wrong:
            value = getattr(wrong[0], key)
            is_absent = value in (ABSENT, None)
            has_no = HAVE_NO if is_absent else HAVE_A_WRONG
            verb = tuple(v.format(key) for v in has_no)
            shown = '' if is_absent else f', {value!r}'
            raise UserError(
                f'{name}: {part(len(wrong), len(entries), what, verb)}'
                f' (the first: {_which(wrong[0])}{shown}): write '
                f'{advice.get(key, "a number")}.'
            )


def _which(entry: Any) -> str:
    """Name an entry as well as it can be."""
    if entry.id is not ABSENT:
        return f'id {entry.id}'
    for key in ('file_name', 'image_id'):
        if getattr(entry, key, ABSENT) is not ABSENT:
            return f'{key} {getattr(entry, key)!r}'
    return 'without an id'


def _look_at_crowds(
    annotations: list[CocoAnnotation], name: str, find: Findings
) -> None:
    """Look at the marks of crowds, which training alone can do without."""
    # None counts as 0, and a text as 1, be it '0'.
    marked = [a for a in annotations if a.iscrowd not in (ABSENT, None)]
    _need_keys(marked, ('iscrowd',), name, 'annotation')
    without = sum(a.iscrowd is ABSENT for a in annotations)
    if without:
        verb = tuple(v.format('iscrowd') for v in HAVE_NO)
        find.warn(
            f'{name}: {part(without, len(annotations), "annotation", verb)} '
            'and count as single objects; without it, the file cannot be used '
            'to validate or test.'
        )


def _look_at_scored_ids(
    annotations: list[CocoAnnotation], name: str, find: Findings
) -> None:
    """Find ids that pycocotools cannot keep, or takes for no object.

    It notes the ids of matched objects in an array of floats, where 0 means
    that a detection has no match.
    """
    texts = [
        a.id
        for a in annotations
        if isinstance(a.id, str) and not a.id.isdecimal()
    ]
    if texts:
        find.stop(
            f'{name}: {part(len(texts), len(annotations), "annotation", HAS)} '
            f'a text as "id" (the first: {texts[0]!r}), with which '
            'pycocotools cannot score: number them from 1.'
        )
    elif any(a.id in (0, '0') for a in annotations):
        find.warn(
            f'{name}: an annotation has the id 0, and pycocotools counts '
            'every detection of this object as wrong: number annotations '
            'from 1.'
        )


def _look_for_doubles(content: CocoFile, name: str, find: Findings) -> None:
    """Find ids that several entries have: all but one would be lost."""
    for key in ('images', 'annotations', 'categories'):
        entries = getattr(content, key)
        if len({e.id for e in entries}) == len(entries):
            continue
        counts = Counter(e.id for e in entries)
        double, count = counts.most_common(1)[0]
        total = sum(n > 1 for n in counts.values())
        what = 'category' if key == 'categories' else key[:-1]
        find.stop(
            f'{name}: {counted(total, what)} '
            f'{"ids are" if total > 1 else "id is"} given more than once '
            f'(id {double} {count} times): give each of {key!r} a number of '
            'its own, and change what refers to it.'
        )
    names = Counter(c.name for c in content.categories)  # type: ignore
    double, count = names.most_common(1)[0] if names else ('', 1)
    if count > 1:
        find.stop(
            f'{name}: {count} categories have the name {double!r}, which '
            'shifts the numbers of all that follow: join them.'
        )


def _match_categories(
    content: CocoFile, source: Source, name: str, find: Findings
) -> dict[Any, str]:
    """Compare categories and class names; return the name by id."""
    categories = content.categories or []
    classes = source.classes
    here = [c.name for c in categories]
    labels = {c.id: c.name for c in categories if c.name in classes}
    others = [n for n in here if n not in classes]
    absent = [n for n in classes if n not in here]
    close = _closest(absent, here)
    both = (
        f'categories of the file: {listed(here)}; class names of the config: '
        f'{listed(classes)}'
    )
    order = [c.name for c in categories if c.name in classes]
    find.order = order
    if not labels:
        own = ','.join(here)
        way = f'--cfg-options {shlex.quote("classes=" + own)}'
        if any(',' in label for label in here):
            way = f'classes = {tuple(here)!r} in a config (docs/your_data.md)'
        raise UserError(
            f'{name}: no category has one of the class names, so nothing '
            f'would be learned or scored.{close} In the {both}. To take the '
            f'names of the file: {way}'
        )
    if others:
        find.warn(
            f'{name}: {len(others)} of {counted(len(here), "category")} '
            f'{"is" if len(others) == 1 else "are"} left out, as no class has '
            f'the name: {listed(others)}.{close} In the {both}.'
        )
    if absent:
        find.warn(
            f'{name}: no category has the class '
            f'{"names" if len(absent) > 1 else "name"} {listed(absent)}, and '
            f'the numbers of the classes after it shift.{close} In the '
            f'{both}.'
        )
    elif order != [n for n in classes if n in here]:
        find.warn(
            f'{name}: its categories are in another order than the class '
            'names, and MMDetection numbers them as the file does, so '
            'predictions would be drawn under wrong names: order the names '
            f'as {listed(order)}.'
        )
    return labels


def _closest(absent: list[str], here: list[Any]) -> str:
    """Suggest a category for a class name that differs a little."""
    folded = {str(n).strip().lower(): n for n in here}
    for wanted in absent:
        match = difflib.get_close_matches(wanted.strip().lower(), folded, n=1)
        if match and folded[match[0]] != wanted:
            return f' Is {wanted!r} the {folded[match[0]]!r} of the file?'
    return ''


def _look_for_strangers(
    annotations: list[CocoAnnotation],
    rows: np.ndarray,
    labels: dict[Any, str],
    name: str,
    find: Findings,
) -> None:
    """Find annotations of images that the file does not list."""
    strangers = np.flatnonzero(rows < 0)
    if not len(strangers):
        return
    first = annotations[strangers[0]]
    total = part(
        len(strangers), len(annotations), 'annotation', ('belongs', 'belong')
    )
    sentence = (
        f'{name}: {total} to images that the file does not list (the first: '
        f'id {first.id}, image_id {first.image_id!r}): correct "image_id", '
        'or add the images.'
    )
    if len(strangers) == len(annotations):
        raise UserError(sentence)
    find.warn(sentence)


def _summarise(
    annotations: list[CocoAnnotation],
    rows: np.ndarray,
    is_kept: np.ndarray,
    has_object: np.ndarray,
    name: str,
    find: Findings,
) -> None:
    single = is_kept & np.array([not a.iscrowd for a in annotations], bool)
    has_single = np.bincount(rows[single], minlength=len(has_object)) > 0
    find.note(
        f'{name}: {counted(len(has_object), "image")}, '
        f'{counted(int(is_kept.sum()), "annotation")}; '
        f'{counted(int((~has_object).sum()), "image")} without objects, '
        f'{int((has_object & ~has_single).sum()):,} with crowds only.'
    )
