"""Make smaller copies of the images of pre-training, to decode them faster.

    python tools/reencode_images.py SRC DST                    # quality 90
    python tools/reencode_images.py SRC DST --short-side 360   # and smaller

This changes the data: the copies are JPEG of another quality, with chroma at
half resolution. With --short-side, larger images are also scaled down
(Lanczos, antialiased). State this when you report results. SRC is not
changed, and DST gets the same folders. The EXIF orientation is not applied,
as in pre-training, and not kept. Broken images are left out and listed in
DST/reencode.json. After an interruption the same command continues.
"""

import argparse
import json
import os
import shlex
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from statistics import mean

from pixcon_mm.datasets.listing import list_images, readable_suffixes
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.files import atomic_write
from pixcon_mm.progress import with_progress
from pixcon_mm.tools.reencode import decode_times, output_names, reencode

RECORD = 'reencode.json'
UNITS = ((1e9, 'GB'), (1e6, 'MB'), (1e3, 'kB'))

Paths = tuple[Path, Path]


def main(argv: list[str] | None = None) -> None:
    """List, encode what is missing, measure, report."""
    args = parse_args(argv)
    names = list_names(args.src, args.dst)
    settings = {
        'SRC': str(args.src.resolve()),
        '--quality': args.quality,
        '--short-side': args.short_side or 'left out',
    }
    record = read_record(args.dst, settings)
    copies = output_names(names, record.get('renamed', {}))
    record.setdefault('renamed', {}).update(
        (name, copy) for name, copy in copies.items() if name != copy
    )
    write_record(args.dst, record)

    pairs = [(args.src / name, args.dst / copies[name]) for name in names]
    missing = [pair for pair in pairs if not pair[1].exists()]
    convert = partial(
        reencode, quality=args.quality, short_side=args.short_side
    )
    reasons = run_all(convert, missing, args.workers)
    broken = {
        source.relative_to(args.src).as_posix(): reason
        for (source, _), reason in zip(missing, reasons, strict=True)
        if reason
    }
    pairs = [pair for pair in pairs if pair[1].exists()]
    record |= dict(
        images=len(pairs),
        bytes_before=sum(source.stat().st_size for source, _ in pairs),
        bytes_after=sum(copy.stat().st_size for _, copy in pairs),
        broken=broken,
    )
    write_record(args.dst, record)
    if not pairs:
        name, reason = next(iter(broken.items()))
        raise UserError(
            f'None of the {len(names)} images in {args.src} can be read (the '
            f'first is {name!r}: {reason}): check that the files are '
            'complete images.'
        )
    print(summary(args.dst, record, len(missing) - len(broken), pairs))


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
        '--short-side', type=int, help='in pixels; default: unchanged'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count(),
        help='processes; default: one for each core',
    )
    args = parser.parse_args(argv)
    if not 1 <= args.quality <= 100:
        parser.error(f'--quality {args.quality}: must be 1 to 100')
    if args.short_side is not None and args.short_side < 1:
        parser.error(f'--short-side {args.short_side}: must be positive')
    if args.workers < 1:
        parser.error(f'--workers {args.workers}: must be positive')
    return args


def list_names(src: Path, dst: Path) -> list[str]:
    """List relative paths of the images; refuse to write where they are."""
    visited: set[str] = set()
    paths = list_images(str(src), readable_suffixes(), visited)
    place = dst.resolve()
    # Listed folders may be links.
    if visited & {str(folder) for folder in (place, *place.parents)}:
        raise UserError(
            f'DST {dst} is SRC {src} or lies in it, so originals and copies '
            'would mix: choose a folder elsewhere.'
        )
    return [Path(path).relative_to(src).as_posix() for path in paths]


def read_record(dst: Path, settings: dict) -> dict:
    """Read the record of an earlier run; refuse to mix kinds of copies."""
    path = dst / RECORD
    if dst.exists() and not dst.is_dir():
        raise UserError(f'DST {dst} is a file: name a folder.')
    if not path.exists():
        if dst.exists() and any(p.name[0] != '.' for p in dst.iterdir()):
            raise UserError(
                f'DST {dst} is not empty and has no {RECORD} of an earlier '
                'run: choose a new folder.'
            )
        return dict(settings=settings)
    try:
        record = json.loads(path.read_bytes())
        earlier = record['settings']
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
            f'DST {dst} holds copies made with {differences}: name '
            'another folder, or use the same options.'
        )
    return record


def write_record(dst: Path, record: dict) -> None:
    """Note the settings and results where the copies are."""
    try:
        content = json.dumps(record, indent=1)
        atomic_write(dst / RECORD, content.encode())
    except UserError as error:
        raise UserError(
            f'DST {dst} cannot be written to ({error.__cause__.strerror}): '
            'name another folder.'
        ) from error.__cause__


def run_all(convert, pairs: list[Paths], workers: int) -> list[str | None]:
    """Convert all; return why each failed, or None."""

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
    """Stop with the first process, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def summary(dst: Path, record: dict, new: int, pairs: list[Paths]) -> str:
    """Say what was done, what it saves, and what to do next."""
    sizes = [record['bytes_before'], record['bytes_after']]
    times = decode_times(pairs)
    before, after = (1e3 * mean(t) for t in zip(*times, strict=True))
    broken = record['broken']
    lines = [
        f'images    {record["images"]} in {dst}, {new} of them new; '
        f'{len(broken)} broken and left out',
        f'bytes     {" -> ".join(map(readable, sizes))}, '
        f'{sizes[0] / sizes[1]:.1f} times fewer',
        f'decoding  {before:.2f} -> {after:.2f} ms an image (mean of '
        f'{len(times)}, one thread): decoding is {before / after:.1f} '
        'times faster',
        f'pre-train with --cfg-options data_root={shlex.quote(str(dst))}; '
        'the data differ from SRC, so say so when you report results',
    ]
    if broken:
        some = ', '.join(map(repr, list(broken)[:5]))
        more = ', ...' if len(broken) > 5 else ''
        lines.insert(1, f'broken    {some}{more} (all in {dst / RECORD})')
    return '\n'.join(lines)


def readable(size: float) -> str:
    """Return bytes with a unit."""
    for factor, unit in UNITS:
        if size >= factor:
            return f'{size / factor:.1f} {unit}'
    return f'{size} B'


if __name__ == '__main__':
    run_tool(main)
