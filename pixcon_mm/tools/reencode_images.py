"""Make smaller copies of images for pre-training, which are decoded faster.

    python tools/reencode_images.py SRC DST                    # quality 90
    python tools/reencode_images.py SRC DST --short-side 360   # smaller size

This changes the data: the copies are JPEG files of another quality, with
chroma at half resolution. With --short-side, larger images are also scaled
down (Lanczos, antialiased). State this when you report results. SRC does not
change, and DST gets the same folders. As in pre-training, the EXIF orientation
is not applied; the copies do not have it. Broken images are left out and
listed in DST/reencode.json. After an interruption, or if images in SRC have
changed, run the same command again: it makes the copies that are missing or
of an earlier image. A copy has the time of modification of its image.
"""

import argparse
import contextlib
import io
import json
import os
import shlex
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from pixcon_mm.cli import at_least
from pixcon_mm.datasets.listing import list_images, readable_suffixes
from pixcon_mm.datasets.loading import BrokenImageError, LoadSceneImage
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.files import atomic_write
from pixcon_mm.processes import die_with_parent
from pixcon_mm.progress import with_progress
from pixcon_mm.wording import listed

RECORD = 'reencode.json'
COARSEST = 2.0  # seconds between two times that a file system can tell apart
Paths = tuple[Path, Path]  # an image and its copy


def main(argv: list[str] | None = None) -> None:
    """Make the copies that are missing or outdated, and print a report."""
    args = parse_args(argv)
    names = list_names(args.src, args.dst)
    settings = {
        'SRC': str(args.src.resolve()),
        '--quality': args.quality,
        '--short-side': args.short_side or 'left out',
    }
    check_record(args.dst, settings)
    write_record(args.dst, dict(settings=settings))

    pairs = [(args.src / name, args.dst / copy_name(name)) for name in names]
    missing = [pair for pair in pairs if not is_current(*pair)]
    convert = partial(
        reencode, quality=args.quality, short_side=args.short_side
    )
    reasons = run_all(convert, missing, args.workers)
    broken = {
        source.relative_to(args.src).as_posix(): reason
        for (source, _), reason in zip(missing, reasons, strict=True)
        if reason
    }
    for (_, copy), reason in zip(missing, reasons, strict=True):
        if reason:  # it was an image when an earlier copy was made
            copy.unlink(missing_ok=True)
    pairs = [pair for pair in pairs if pair[1].exists()]
    copies = {str(copy) for _, copy in pairs}
    others = {str(path) for path in args.dst.rglob('*.jpg')} - copies
    record = dict(
        settings=settings,
        images=len(pairs),
        bytes_before=sum(source.stat().st_size for source, _ in pairs),
        bytes_after=sum(copy.stat().st_size for _, copy in pairs),
        broken=broken,
        others=sorted(str(Path(p).relative_to(args.dst)) for p in others),
    )
    write_record(args.dst, record)
    if not pairs:
        name, reason = next(iter(broken.items()))
        raise UserError(
            f'None of the {len(names)} images in {args.src} can be read (the '
            f'first is {name!r}: {reason}): check that the files are '
            'complete images.'
        )
    print(summary(args.dst, record, len(missing) - len(broken)))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'src', metavar='SRC', type=Path, help='folder of images'
    )
    parser.add_argument(
        'dst', metavar='DST', type=Path, help='a new folder outside SRC'
    )
    parser.add_argument('--quality', type=int, default=90, help='default: 90')
    parser.add_argument(
        '--short-side',
        type=at_least(1),
        help='limit of the short side, in pixels; default: none',
    )
    parser.add_argument(
        '--workers',
        type=at_least(1),
        default=os.cpu_count(),
        help='number of processes; default: one for each core',
    )
    args = parser.parse_args(argv)
    if not 1 <= args.quality <= 100:
        parser.error(f'--quality {args.quality}: must be 1 to 100')
    return args


def list_names(src: Path, dst: Path) -> list[str]:
    """List relative paths of the images.

    Raises:
        UserError: If DST is inside SRC, or two copies would have the same
            name.
    """
    visited: set[str] = set()
    paths = list_images(str(src), readable_suffixes(), visited)
    place = dst.resolve()
    # Compare with all visited folders, because links may lead to DST.
    if visited & {str(folder) for folder in (place, *place.parents)}:
        raise UserError(
            f'DST {dst} is SRC {src} or lies in it, so originals and copies '
            'would mix: choose a folder elsewhere.'
        )
    names = [Path(path).relative_to(src).as_posix() for path in paths]
    known = {*names}
    for name in names:
        if copy_name(name) != name and copy_name(name) in known:
            raise UserError(
                f'{src} has {name} and {copy_name(name)}, whose copies would '
                'have the same name: rename one of them.'
            )
    return names


def copy_name(name: str) -> str:
    """Return the relative path of an image's copy.

    Example:
        >>> copy_name('b/x.jpg'), copy_name('y.PNG')
        ('b/x.jpg', 'y.PNG.jpg')
    """
    return name if name.endswith('.jpg') else f'{name}.jpg'


def check_record(dst: Path, settings: dict) -> None:
    """Stop if the folder of copies has other files or other settings."""
    path = dst / RECORD
    if dst.exists() and not dst.is_dir():
        raise UserError(f'DST {dst} is a file: name a folder.')
    if not path.exists():
        if dst.exists() and any(p.name[0] != '.' for p in dst.iterdir()):
            raise UserError(
                f'DST {dst} is not empty and has no {RECORD} of an earlier '
                'run: choose a new folder.'
            )
        return
    try:
        earlier = json.loads(path.read_bytes())['settings']
        others = [n for n in settings if earlier[n] != settings[n]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} was not written by this tool: choose a new folder as DST.'
        ) from error
    if others:
        differences = ' and '.join(
            f'{name} {earlier[name]} (now {settings[name]})' for name in others
        )
        raise UserError(
            f'DST {dst} has copies made with {differences}: name '
            'another folder, or use the same options.'
        )


def is_current(source: Path, copy: Path) -> bool:
    """Check if there is a copy, and it is of the image as it is now."""
    try:
        difference = source.stat().st_mtime - copy.stat().st_mtime
    except OSError:
        return False
    return abs(difference) <= COARSEST


def write_record(dst: Path, record: dict) -> None:
    """Write settings and results into the folder of the copies."""
    atomic_write(dst / RECORD, json.dumps(record, indent=1).encode())


def run_all(
    convert: Callable, pairs: list[Paths], workers: int
) -> list[str | None]:
    """Convert all images; return the reason for each failure, else None."""

    def watch(results):
        return list(with_progress(results, len(pairs), 're-encoding'))

    workers = min(workers, len(pairs))
    if workers <= 1:
        return watch(map(convert, pairs))
    with ProcessPoolExecutor(workers, initializer=follow_parent) as pool:
        try:
            return watch(pool.map(convert, pairs, chunksize=8))
        except BrokenProcessPool as error:
            raise UserError(
                'A worker process was killed, perhaps because memory ran '
                'out: run the same command again, which continues where it '
                f'stopped, with fewer --workers than {workers}.'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def follow_parent() -> None:
    """Ignore Ctrl-C in a worker, and end it when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def reencode(paths: Paths, quality: int, short_side: int | None) -> str | None:
    """Write the smaller copy of one image.

    The copy has the same content if the image is a JPEG that needs no scaling
    and would become larger.

    Args:
        paths (tuple[Path, Path]): The source and its copy.
        quality (int): Quality of libjpeg, 1 to 100.
        short_side (int | None): See :func:`scaled_size`.

    Returns:
        str | None: Reason if there is no copy because the source is broken.

    Raises:
        UserError: If the copy cannot be written.
    """
    source, copy = paths
    try:
        times = source.stat()
        # Read as in pre-training, so that images which it would skip have no
        # copies, and others have the same orientation.
        original, image = LoadSceneImage().read(source)
        content = encode_jpeg(image, quality, short_side)
    except BrokenImageError as error:
        return str(error.__cause__ or error)
    except OSError as error:
        # For instance, a side of a JPEG has 65,500 pixels at most.
        return f'it cannot be written as JPEG: {error}'
    size = image.shape[1::-1]
    is_small = scaled_size(*size, short_side) == size
    if is_small and len(content) > len(original) and _is_plain(original):
        content = original
    atomic_write(copy, content)
    # With this time, the copy is known to be of this image. Some network file
    # systems refuse it; there, the next run makes the copy again.
    with contextlib.suppress(OSError):
        os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    return None


def scaled_size(
    width: int, height: int, short_side: int | None
) -> tuple[int, int]:
    """Return a size with a short side of at most ``short_side`` pixels.

    Images are never enlarged; None keeps the size.

    Example:
        >>> scaled_size(640, 480, 360), scaled_size(640, 480, 720)
        ((480, 360), (640, 480))
    """
    short = min(width, height)
    side = min(short_side or short, short)
    return round(width * side / short), round(height * side / short)


def encode_jpeg(
    image: np.ndarray, quality: int, short_side: int | None
) -> bytes:
    """Scale an image down and encode it, with chroma at half resolution.

    Of Pillow's antialiasing filters, Lanczos blurs least, which matters
    because pre-training scales the copies again.

    Args:
        image (np.ndarray): uint8, BGR. Shape (H, W, 3).
        quality (int): Quality of libjpeg, 1 to 100.
        short_side (int | None): See :func:`scaled_size`.

    Returns:
        bytes: Content of a baseline JPEG file without EXIF.

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
    # optimize=True saves only 2 %, and Pillow's buffer for it is too small
    # for noisy images.
    picture.save(buffer, 'JPEG', quality=quality, subsampling='4:2:0')
    return buffer.getvalue()


def _is_plain(content: bytes) -> bool:
    """Check if a file is a baseline JPEG without EXIF orientation."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1)
            return (
                image.format == 'JPEG'
                and image.mode in ('L', 'RGB')
                and not image.info.get('progressive')
                and turned == 1
            )
    # Pillow is stricter than the other decoders; such files are re-encoded.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def summary(dst: Path, record: dict, new: int) -> str:
    """Return the report: number of copies, savings and the next command."""
    sizes = [record['bytes_before'], record['bytes_after']]
    broken, others = record['broken'], record['others']
    lines = [
        f'images    {record["images"]} in {dst}, {new} of them new; '
        f'{len(broken)} broken and left out',
        f'bytes     {" -> ".join(f"{size / 1e6:.3g} MB" for size in sizes)}, '
        f'{sizes[0] / sizes[1]:.1f} times fewer',
        f'pre-train with --cfg-options data_root={shlex.quote(str(dst))}; '
        'the data differ from SRC, so state this when you report results',
    ]
    for what, names, advice in (
        ('broken', broken, ''),
        ('others', others, '; SRC has no such images: remove them from DST'),
    ):
        if names:
            all_names = f'(all in {dst / RECORD})'
            lines.append(f'{what}    {listed(names, 5)} {all_names}{advice}')
    return '\n'.join(lines)


if __name__ == '__main__':
    run_tool(main)
