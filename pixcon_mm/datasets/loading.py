"""Images to load: the first transform of a pipeline, and lists of images."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dist import master_only
from mmpretrain.registry import TRANSFORMS

from pixcon_mm.datasets.decoding import MAX_PIXELS, decode_whole
from pixcon_mm.datasets.listing import PICTURES, walk
from pixcon_mm.datasets.storage import PATIENCE, read_file
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

# For the largest size of a file: uncompressed pixels of four channels with 16
# bits, and room for metadata.
BYTES_A_PIXEL, METADATA = 8, 64 * 2**20
Name = TypeVar('Name', str, Path)


class BrokenImageError(ValueError):
    """A file that is not a readable, complete image.

    The only error that makes ``SceneImageDataset`` skip an image.
    """


@TRANSFORMS.register_module()
class LoadSceneImage(BaseTransform):
    """Load any 8- or 16-bit image as BGR, or refuse it as broken.

    ``docs/data.md`` lists what is read and what counts as broken. The EXIF
    orientation is ignored, as in the released PixCon.

    Required keys: ``img_path``. Added keys: ``img`` (uint8, (H, W, 3), BGR),
    ``img_shape``, ``ori_shape``.

    Args:
        max_pixels (int): Height times width above which an image counts as
            broken, before it is decoded.
        patience (float): Seconds to wait for storage that does not answer.
    """

    def __init__(
        self, max_pixels: int = MAX_PIXELS, patience: float = PATIENCE
    ):
        self.max_pixels = max_pixels
        self.patience = patience

    def transform(self, results: dict) -> dict:
        """Read and decode ``results['img_path']``."""
        _, image = self.read(results['img_path'])
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def read(self, path: str) -> tuple[bytes, np.ndarray]:
        """Return a file's content and the image in it, (H, W, 3).

        Raises:
            BrokenImageError: If the file cannot be read or decoded.
            UserError: If the storage did not come back in time.
        """
        try:
            max_bytes = BYTES_A_PIXEL * self.max_pixels + METADATA
            content = read_file(path, max_bytes, self.patience)
            return content, decode_whole(content, self.max_pixels)
        except MemoryError as error:
            reason = 'there is not enough memory for it'
            raise BrokenImageError(f'{as_line(path)}: {reason}') from error
        except (OSError, ValueError) as error:
            raise BrokenImageError(f'{as_line(path)}: {error}') from error


def name_images(inputs: list[Path], out: Path) -> dict[Path, str]:
    """List images and the images below folders, each with a unique name.

    Args:
        inputs (list[Path]): Images and folders. In folders, names that start
            with a dot are left out.
        out (Path): Where results will be written. If this folder lies in
            another one, the images in it are left out: they are results of
            an earlier call.

    Returns:
        dict[Path, str]: Names by path. A name is the path relative to the
        folder, without suffix unless two images would have the same name, and
        with a number if they still have.

    Raises:
        UserError: If a path does not exist, if a folder has no image, or if
            ``out`` is one of the folders.
    """
    images: dict[Path, Path] = {}
    results = out.resolve()
    for path in inputs:
        if path.is_dir():
            if path.resolve() == results:
                raise UserError(
                    f'{as_line(path)} has the images and would get the '
                    'results, which a second call would take for images: '
                    'name another folder with --out.'
                )
            has_results = results.is_relative_to(path.resolve())
            found = sorted(
                Path(folder, name)
                for folder, names in walk(str(path))
                if not has_results
                or not Path(folder).resolve().is_relative_to(results)
                for name in names
                if name.lower().endswith(PICTURES)
            )
            if not found:
                raise UserError(
                    f'{as_line(path)} has no image: none of its files ends '
                    f'in {", ".join(PICTURES)}.'
                )
            images.update((file, file.relative_to(path)) for file in found)
        elif path.is_file():
            images[path] = Path(path.name)
        else:
            raise UserError(f'There is no image or folder {as_line(path)}.')
    shared = Counter(name.with_suffix('') for name in images.values())
    names: dict[Path, str] = {}
    used: set[str] = set()
    for path, name in images.items():
        stem = name.with_suffix('')
        text = unique = str(name if shared[stem] > 1 else stem)
        number = 1
        while unique in used:
            number += 1
            unique = f'{text}_{number}'
        used.add(unique)
        names[path] = unique
    return names


def readable_images(
    paths: Iterable[Name], count: int | None = None
) -> list[Name]:
    """Return the images that can be read, and name the others on stderr.

    Args:
        paths (Iterable[str | Path]): Image files.
        count (int, optional): Stop at this many readable ones.

    Returns:
        list[str | Path]: The paths that can be read, in their order.

    Raises:
        UserError: If none can be read.
    """
    load, broken = LoadSceneImage(), 0
    found: list[Name] = []
    for path in paths:
        if len(found) == count:
            break
        try:
            load.read(str(path))
        except BrokenImageError as error:
            broken += 1
            warn(str(error))
        else:
            found.append(path)
    if not found:
        raise UserError(
            f'None of the images can be read: {broken} are damaged. '
            'docs/data.md says what counts as damaged.'
        )
    if broken:
        warn(f'{broken} of {broken + len(found)} images are left out')
    return found


@master_only
def warn(message: str) -> None:
    """Print a warning, once for all processes of a training."""
    print(f'warning: {message}', file=sys.stderr)
