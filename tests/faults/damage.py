"""Ways to damage a checkpoint, as disks, copies and people do."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

Record = tuple[str, int, int]  # name, offset of the content, size


def cut(share: float) -> Callable[[Path], None]:
    """Keep a share of the file."""

    def damage(path: Path) -> None:
        with path.open('r+b') as file:
            file.truncate(int(path.stat().st_size * share))

    return damage


def cut_last_byte(path: Path) -> None:
    """Lose one byte."""
    with path.open('r+b') as file:
        file.truncate(path.stat().st_size - 1)


def zero_tail(path: Path) -> None:
    """Keep the length; zeros in place of what was not written to disk."""
    size = path.stat().st_size
    with path.open('r+b') as file:
        file.truncate(size // 2)
        file.truncate(size)


def records(path: Path) -> list[Record]:
    """List the records of the archive."""
    with zipfile.ZipFile(path) as archive, path.open('rb') as file:
        found = []
        for info in archive.infolist():
            # The local header has a name and padding of its own.
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
            skip = sum(
                int.from_bytes(lengths[i : i + 2], 'little') for i in (0, 2)
            )
            start = info.header_offset + 30 + skip
            found.append((info.filename, start, info.compress_size))
    return found


def flip_byte(path: Path, offset: int) -> None:
    """Flip all bits of a byte."""
    with path.open('r+b') as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def flip(choose: Callable[[list[Record]], Record], at: float = 0.5):
    """Flip a byte of the record that is chosen, at a share of its length."""

    def damage(path: Path) -> None:
        _, start, size = choose(records(path))
        flip_byte(path, start + min(int(size * at), size - 1))

    return damage


def flip_directory(path: Path) -> None:
    """Flip a byte of the archive's table of contents."""
    flip_byte(path, path.stat().st_size - 200)


def tensor_records(found: list[Record]) -> list[Record]:
    """List the records that hold a tensor, in the order of the file."""
    return [r for r in found if '/data/' in r[0] and r[2] >= 4]


def largest_tensor(found: list[Record]) -> Record:
    """Choose the record of the largest tensor."""
    return max(tensor_records(found), key=lambda r: r[2])


def description(found: list[Record]) -> Record:
    """Choose the record that describes all others."""
    return next(r for r in found if r[0].endswith('/data.pkl'))


def other_content(path: Path) -> None:
    """Write a whole file that is no checkpoint."""
    torch.save(dict(a=torch.zeros(3)), path)


def web_page(path: Path) -> None:
    """Write a proxy's error page in place of the file."""
    path.write_text('<html><body>502 Bad Gateway</body></html>\n')


class Trap:
    """Object that writes a file when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return exec, (f'open({str(self.witness)!r}, "w").close()',)


def trap(path: Path) -> None:
    """Make the checkpoint run code when it is unpickled carelessly."""
    content = torch.load(path, map_location='cpu', weights_only=False)
    content['meta']['trap'] = Trap(path.with_name('code-ran'))
    torch.save(content, path, pickle_module=pickle)
