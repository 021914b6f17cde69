"""Smaller copies of images, for decoding to cost less."""

import io
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from pixcon_mm.datasets.decoding import decode_whole
from pixcon_mm.datasets.loading import BrokenImageError, LoadSceneImage
from pixcon_mm.datasets.storage import read_file
from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write


def output_names(names: list[str], known: dict[str, str]) -> dict[str, str]:
    """Choose the names of the copies: no two alike, all ending in .jpg.

    A JPEG has the first claim to its name. Capitals make no difference,
    because on some disks they make none.

    Args:
        names (list[str]): Relative paths of the sources.
        known (dict[str, str]): What an earlier call chose for some of them;
            they keep it.

    Returns:
        dict[str, str]: Relative path of the copy, by source.

    Example:
        >>> output_names(['b/x.png', 'b/x.jpg', 'y.PNG'], {})
        {'b/x.png': 'b/x.png.jpg', 'b/x.jpg': 'b/x.jpg', 'y.PNG': 'y.jpg'}
        >>> output_names(['y.PNG', 'y.jpg'], {'y.PNG': 'y.jpg'})
        {'y.PNG': 'y.jpg', 'y.jpg': 'y.jpg.jpg'}
    """
    chosen = dict(known)
    taken = {copy.lower() for copy in known.values()}
    for name in sorted(names, key=lambda n: (not n.endswith('.jpg'), n)):
        if name in chosen:
            continue
        copy = Path(name).with_suffix('.jpg').as_posix()
        longer = name
        while copy.lower() in taken:
            copy = longer = f'{longer}.jpg'
        chosen[name] = copy
        taken.add(copy.lower())
    return {name: chosen[name] for name in names}


def scaled_size(
    width: int, height: int, short_side: int | None
) -> tuple[int, int]:
    """Size with a short side of at most so many pixels; never larger.

    Args:
        width (int): Of the image.
        height (int): Of the image.
        short_side (int | None): What the shorter one may be; None, anything.

    Returns:
        tuple[int, int]: Width and height.

    Example:
        >>> scaled_size(640, 480, 360), scaled_size(640, 480, 720)
        ((480, 360), (640, 480))
    """
    short = min(width, height)
    if short_side is None or short <= short_side:
        return width, height
    return round(width * short_side / short), round(
        height * short_side / short
    )


def encode_jpeg(
    image: np.ndarray, quality: int, short_side: int | None
) -> bytes:
    """Scale an image down and encode it, with chroma at half resolution.

    Scaling is Lanczos over the whole support (antialiased): of Pillow's
    filters the one that blurs least, as pre-training scales once more.

    Args:
        image (np.ndarray): uint8, BGR. Shape (H, W, 3).
        quality (int): Of libjpeg.
        short_side (int | None): As in :func:`scaled_size`.

    Returns:
        bytes: A baseline JPEG file without EXIF.

    Example:
        >>> content = encode_jpeg(np.zeros((20, 40, 3), np.uint8), 90, 10)
        >>> Image.open(io.BytesIO(content)).size
        (20, 10)
    """
    picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    size = scaled_size(*picture.size, short_side)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # optimize=True saves two bytes in a hundred, and Pillow's buffer for it
    # is too small for noisy images.
    picture.save(buffer, 'JPEG', quality=quality, subsampling='4:2:0')
    return buffer.getvalue()


def reencode(
    paths: tuple[Path, Path], quality: int, short_side: int | None
) -> str | None:
    """Write the smaller copy of one image.

    A JPEG that is small enough and would grow is copied as it is.

    Args:
        paths (tuple[Path, Path]): The source and its copy.
        quality (int): Of libjpeg.
        short_side (int | None): As in :func:`scaled_size`.

    Returns:
        str | None: Why there is no copy, if the source is broken.

    Raises:
        UserError: If the copy cannot be written.
    """
    source, copy = paths
    try:
        # As in pre-training, so that what it would skip is missing, and
        # pixels lie where it would see them.
        original, image = LoadSceneImage().read(source)
        content = encode_jpeg(image, quality, short_side)
    except BrokenImageError as error:
        return str(error.__cause__ or error)
    except OSError as error:
        # For instance, JPEG ends at 65500 pixels.
        return f'no JPEG can be made of it: {error}'
    height, width = image.shape[:2]
    is_small = scaled_size(width, height, short_side) == (width, height)
    if is_small and len(content) > len(original) and _is_plain(original):
        content = original
    try:
        atomic_write(copy, content)
    except UserError as error:
        raise UserError(
            f'{copy} cannot be written ({error.__cause__.strerror}): fix '
            'this and run the same command again, which continues where it '
            'stopped; or choose another folder as DST.'
        ) from error.__cause__
    return None


def decode_times(
    pairs: list[tuple[Path, Path]], sample: int = 64, limit: float = 20.0
) -> list[tuple[float, float]]:
    """Measure decoding in this process, originals and copies in turn.

    Args:
        pairs (list[tuple[Path, Path]]): Sources and copies.
        sample (int): How many pairs are measured, evenly spread. Defaults
            to 64.
        limit (float): Seconds after which no further pair is started, as a
            large photograph may take one. Defaults to 20.

    Returns:
        list[tuple[float, float]]: Median seconds of the source and of the
            copy, for each pair measured.
    """
    size = min(sample, len(pairs))
    medians = []
    deadline = time.perf_counter() + limit
    for i in range(size):
        chosen = pairs[i * len(pairs) // size]
        contents = [read_file(path, sys.maxsize) for path in chosen]
        seconds: list[list[float]] = [[], []]
        for _ in range(5):
            for content, times in zip(contents, seconds, strict=True):
                start = time.perf_counter()
                decode_whole(content)
                times.append(time.perf_counter() - start)
        before, after = map(statistics.median, seconds)
        medians.append((before, after))
        if time.perf_counter() > deadline:
            break
    return medians


def _is_plain(content: bytes) -> bool:
    """Return whether a file is a baseline JPEG that needs no rotation."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1)
            return (
                image.format == 'JPEG'
                and image.mode in ('L', 'RGB')
                and not image.info.get('progressive')
                and turned == 1
            )
    # Pillow is stricter than the other decoders. Re-encoding is always safe.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
