"""COCO-style JSON, read fast and with little memory."""

import codecs
import os
import re
import sys
from typing import Any

import msgspec

from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.wording import share

ABSENT: Any = msgspec.UNSET
UNMARKED = (ABSENT, None)
PACKED = (b'\x1f\x8b', b'PK\x03\x04')  # gzip and ZIP
LISTS = ('images', 'annotations', 'categories')
BOMS = {
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}
LARGE = 200e6  # bytes that take about two seconds
NUMBER, ID = (int, float), (int, float, str)
# Types of the values that are read, and what to write.
KEYS: dict[str, tuple[tuple[type, ...], str]] = dict(
    id=(ID, 'a number of its own'),
    image_id=(ID, 'the id of its image'),
    category_id=(ID, 'the id of its category'),
    file_name=((str,), 'the name of the file, as text'),
    width=(NUMBER, 'the width of the image in pixels'),
    height=(NUMBER, 'the height of the image in pixels'),
    area=(NUMBER, 'the area of the object in pixels'),
    iscrowd=((int, bool), '0 for single objects, 1 for crowds'),
    name=((str,), 'the name of the class, as text'),
    bbox=((list,), '[x, y, width, height] in pixels'),
)
CATEGORY_KEYS = ('id', 'name')
IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
ANNOTATION_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')


# The segmentations, nine tenths of a file, stay bytes: that takes a quarter of
# the time and of the memory that Python's json takes.
class CocoAnnotation(msgspec.Struct, gc=False):
    """An object of an image."""

    id: Any = ABSENT
    image_id: Any = ABSENT
    category_id: Any = ABSENT
    bbox: Any = ABSENT
    area: Any = ABSENT
    iscrowd: Any = ABSENT
    ignore: Any = ABSENT
    segmentation: msgspec.Raw | msgspec.UnsetType = ABSENT


class CocoImage(msgspec.Struct, gc=False):
    """An image."""

    id: Any = ABSENT
    file_name: Any = ABSENT
    height: Any = ABSENT
    width: Any = ABSENT


class CocoCategory(msgspec.Struct, gc=False):
    """A kind of objects."""

    id: Any = ABSENT
    name: Any = ABSENT


class CocoFile(msgspec.Struct):
    """The parts of a file that are used."""

    images: list[CocoImage] = ABSENT
    annotations: list[CocoAnnotation] = ABSENT
    categories: list[CocoCategory] = ABSENT


def read_coco(
    path: str, needed: tuple[str, ...] = ANNOTATION_KEYS
) -> CocoFile:
    """Read a file of annotations.

    Args:
        path (str): The file.
        needed (tuple[str, ...]): Keys that every annotation must have.

    Raises:
        UserError: If it is damaged or not in COCO's format, or an image or an
            annotation lacks a key.
    """
    name = as_line(path)
    try:
        size = os.path.getsize(path)
        if size > LARGE and sys.stderr.isatty():
            print(f'reading {name} ({size / 1e6:,.0f} MB)', file=sys.stderr)
        with open(path, 'rb') as file:
            text = file.read()
        _check_start(name, text)
        if not text.isascii():
            text.decode()  # segmentations are not decoded below
        content = msgspec.json.decode(text, type=CocoFile)
    except OSError as error:
        raise UserError(
            f'{name} cannot be read ({error.strerror}).'
        ) from error
    except msgspec.ValidationError as error:
        raise UserError(
            f'{name} is not in the format of COCO, an object with the lists '
            f'"images", "annotations" and "categories": {error}.'
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f'{name} is not UTF-8 (byte {error.start:,}): save it as UTF-8.'
        ) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(f'{name} {_damage(text, str(error))}') from error
    for key in LISTS:
        if getattr(content, key) is ABSENT:
            raise UserError(
                f'{name} has no list {key!r}: COCO-style annotations have '
                '"images", "annotations" and "categories".'
            )
    for key in ('images', 'categories'):
        if not getattr(content, key):
            raise UserError(f'{name} is empty: its list {key!r} has no entry.')
    _check_keys(content.images, IMAGE_KEYS, name, 'image')
    _check_keys(content.annotations, needed, name, 'annotation')
    # Data sets read a missing mark as 0, but a text as 1, even '0'.
    marked = [a for a in content.annotations if a.iscrowd not in UNMARKED]
    _check_keys(marked, ('iscrowd',), name, 'annotation')
    _check_keys(content.categories, CATEGORY_KEYS, name, 'category')
    return content


def _check_start(name: str, text: bytes) -> None:
    if not text.strip():
        raise UserError(f'{name} is empty: write or copy it again.')
    if text.startswith(PACKED):
        raise UserError(f'{name} is compressed: unpack it.')
    if text.startswith(b'version https://git-lfs'):
        raise UserError(
            f'{name} is a pointer of Git LFS and not the file: fetch it with '
            'git lfs pull.'
        )
    for mark, encoding in BOMS.items():
        if text.startswith(mark):
            raise UserError(
                f'{name} starts with a byte order mark, which the data set '
                'cannot read: save it as UTF-8 without BOM, for example with '
                f'python -c "p = {name!r}; '
                f"t = open(p, encoding='{encoding}').read(); "
                "open(p, 'w', encoding='utf-8').write(t)\"."
            )


def _damage(text: bytes, reason: str) -> str:
    """Explain why msgspec cannot read a file."""
    if 'truncated' in reason:
        return (
            f'is cut off: its JSON ends early, after {len(text):,} bytes. '
            'Copy or write it again.'
        )
    place = re.search(r'\(byte (\d+)\)', reason)
    if place and text.startswith((b'NaN', b'Infinity'), int(place[1])):
        return (
            'holds NaN or Infinity, which JSON does not allow, and no box or '
            'size should have: remove these entries.'
        )
    return f'cannot be read: {reason}. Write it again.'


def _check_keys(
    entries: list, keys: tuple[str, ...], name: str, what: str
) -> None:
    """Stop at entries that lack a key, or have a wrong value."""
    for key in keys:
        types, advice = KEYS[key]
        wrong = [e for e in entries if type(getattr(e, key)) not in types]
        if wrong:
            value = getattr(wrong[0], key)
            is_absent = value in (ABSENT, None)
            verb = f'has {"no" if is_absent else "a wrong"} {key!r}'
            shown = '' if is_absent else f', {value!r}'
            raise UserError(
                f'{name}: {share(len(wrong), len(entries), what, verb)} (the '
                f'first: {_identity(wrong[0])}{shown}): write {advice}.'
            )


def _identity(entry: Any) -> str:
    """Name an entry as well as possible."""
    if entry.id is not ABSENT:
        return f'id {entry.id}'
    for key in ('file_name', 'image_id'):
        if getattr(entry, key, ABSENT) is not ABSENT:
            return f'{key} {getattr(entry, key)!r}'
    return 'without an id'
