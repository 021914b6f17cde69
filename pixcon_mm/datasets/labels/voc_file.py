"""Read VOC's XML file of an image: its size, names and boxes of objects."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


class VocObject(NamedTuple):
    """An object of an image.

    Attributes:
        name (str): Name of its class.
        corners (list[float]): xmin, ymin, xmax and ymax; pixels count from 1.
        is_difficult (bool): It is marked difficult: background in training
            (docs/differences.md), and not scored in tests.
    """

    name: str
    corners: list[float]
    is_difficult: bool


class VocFile(NamedTuple):
    """Content of an XML file.

    Attributes:
        size (tuple[int, int], optional): Width and height, if it has them.
        objects (list[VocObject]): Its objects, with the difficult ones.
    """

    size: tuple[int, int] | None
    objects: list[VocObject]


def read_voc(path: str | Path) -> VocFile:
    """Read an XML file.

    Raises:
        UserError: If it cannot be read, or lacks what an object needs.
    """
    where = as_line(path)
    try:
        root = ET.parse(path).getroot()
    except OSError as error:
        raise UserError(
            f'{where} cannot be read ({error.strerror}): correct it, or '
            'remove the image from the list.'
        ) from error
    except ET.ParseError as error:
        raise UserError(
            f'{where} is not complete XML ({error}): write it again.'
        ) from error
    objects = [_object(node, where) for node in root.iterfind('object')]
    return VocFile(_size(root, where), objects)


def _size(root: ET.Element, where: str) -> tuple[int, int] | None:
    size = root.find('size')
    if size is None:
        return None
    try:
        width, height = (
            int(size.findtext(key, '')) for key in ('width', 'height')
        )
    except ValueError as error:
        raise UserError(
            f'{where} has a size without whole numbers for width and height: '
            'write them, or remove the size.'
        ) from error
    return width, height


def _object(node: ET.Element, where: str) -> VocObject:
    name = node.findtext('name')
    corners = [_number(node.findtext(f'bndbox/{key}')) for key in CORNERS]
    if not all(map(math.isfinite, corners)):
        raise UserError(
            f'{where}: the object {name!r} has no bndbox with numbers for '
            'xmin, ymin, xmax and ymax: correct it.'
        )
    if not name:
        raise UserError(f'{where}: an object has no name: correct it.')
    mark = node.findtext('difficult', '0')
    try:
        is_difficult = bool(int(mark))
    except ValueError as error:
        raise UserError(
            f'{where}: the object {name!r} has difficult {mark!r}: write 0 or '
            '1.'
        ) from error
    return VocObject(name, corners, is_difficult)


def _number(text: str | None) -> float:
    """Return a number; NaN for what is none."""
    try:
        return float(text or 'nan')
    except ValueError:
        return math.nan
