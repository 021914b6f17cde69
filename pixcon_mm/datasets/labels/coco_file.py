"""COCO-style JSON, read fast and with little memory."""

import codecs
import json
import os
from typing import Any

import msgspec

from pixcon_mm.datasets.labels.findings import reading
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

ABSENT: Any = msgspec.UNSET
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
PACKED = (b'\x1f\x8b', b'PK\x03\x04')  # gzip and ZIP
BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
    """The parts of a file that are looked at."""

    images: list[CocoImage] | msgspec.UnsetType = ABSENT
    annotations: list[CocoAnnotation] | msgspec.UnsetType = ABSENT
    categories: list[CocoCategory] | msgspec.UnsetType = ABSENT


def read_coco(path: str) -> CocoFile:
    """Read a file of annotations.

    Raises:
        UserError: If it cannot be read as such.
    """
    name = as_line(path)
    try:
        with reading(name, os.path.getsize(path)), open(path, 'rb') as file:
            content = file.read()
            _check_start(name, content)
            if not content.isascii():
                content.decode()  # what is skipped below is not decoded
            return msgspec.json.decode(content, type=CocoFile)
    except OSError as error:
        raise UserError(
            f'{name} cannot be read ({error.strerror}).'
        ) from error
    except msgspec.ValidationError as error:
        raise UserError(
            f'{name} is not made as COCO wants it, an object with the lists '
            f'"images", "annotations" and "categories": {error}.'
        ) from error
    except UNREADABLE as error:
        raise UserError(_why_not(name, content, str(error))) from None


def _check_start(name: str, content: bytes) -> None:
    if not content.strip():
        raise UserError(f'{name} is empty: write or copy it again.')
    if content.startswith(PACKED):
        raise UserError(f'{name} is compressed: unpack it.')
    if content.startswith(b'version https://git-lfs'):
        raise UserError(
            f'{name} is a pointer of Git LFS and not the file: fetch it with '
            'git lfs pull.'
        )
    if content.startswith(BOMS):
        raise UserError(
            f'{name} starts with a byte order mark, which the data set '
            'cannot read: save it as UTF-8 without BOM, for example with '
            f'python -c "p = {name!r}; '
            f"t = open(p, encoding='{_encoding(content)}').read(); "
            "open(p, 'w', encoding='utf-8').write(t)\"."
        )


def _encoding(content: bytes) -> str:
    return 'utf-8-sig' if content.startswith(codecs.BOM_UTF8) else 'utf-16'


def _why_not(name: str, content: bytes, reason: str) -> str:
    """Explain why something is no JSON, or give msgspec's reason."""
    constants: list[str] = []
    try:
        text = content.decode()
        json.loads(text, parse_constant=constants.append)
    except RecursionError:
        constants.clear()
    except UnicodeDecodeError as error:
        return f'{name} is not UTF-8 (byte {error.start:,}): save it as UTF-8.'
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) - 1 or 'Unterminated' in str(error):
            return (
                f'{name} is cut off: its JSON breaks off after '
                f'{len(content):,} bytes. Copy or write it again.'
            )
        return (
            f'{name} is not JSON: line {error.lineno}, column '
            f'{error.colno}: {error.msg}. Write it again.'
        )
    if not constants:
        return f'{name} cannot be read as JSON: {reason}. Write it again.'
    return (
        f'{name} holds NaN or Infinity, which JSON does not have, and no box '
        'or size should: remove these entries.'
    )
