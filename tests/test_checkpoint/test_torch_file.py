"""Damage is found wherever it is, and no damage crashes the loading."""

import zipfile

import numpy as np
import pytest
import torch

from pixcon_mm.checkpoint.torch_file import find_damage, load_torch_file
from pixcon_mm.errors import UserError

CONTENT = dict(
    meta=dict(epoch=3, iter=12, seed=None, note='words' * 20),
    tensors=[torch.arange(200.0), torch.ones(3, 5)],
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'epoch_3.pth'
    torch.save(CONTENT, path)
    return path


def flip(path, whole, place, bits=1):
    damaged = bytearray(whole)
    damaged[place] ^= bits
    path.write_bytes(damaged)


def is_content(found):
    return found['meta'] == CONTENT['meta'] and all(
        torch.equal(a, b)
        for a, b in zip(found['tensors'], CONTENT['tensors'], strict=True)
    )


def test_any_flipped_byte_is_found_or_harmless(path):
    """Only dates and padding, which nothing reads, are harmless."""
    whole, refused, harmless = path.read_bytes(), 0, 0
    rng = np.random.default_rng(0)
    places = rng.choice(len(whole), size=400, replace=False)
    for place in places:
        flip(path, whole, place, int(rng.integers(1, 256)))
        try:
            found = load_torch_file(path)
        except UserError as error:
            refused += str(error).startswith(
                f'{path} is not a file of weights'
            )
        else:
            assert is_content(found), place
            harmless += 1
    assert refused + harmless == len(places)
    assert refused > 100


@pytest.mark.parametrize('record', ['data.pkl', 'data/0', 'data/1'])
def test_a_quick_look_checks_what_it_looks_at(path, record):
    with zipfile.ZipFile(path) as archive:
        content = archive.read(f'{path.stem}/{record}')
    whole = path.read_bytes()
    flip(path, whole, whole.index(content) + len(content) // 2)
    assert 'BadZipFile: Bad CRC-32' in find_damage(path)
    is_tensor = record != 'data.pkl'
    assert (find_damage(path, skip_tensors=True) is None) == is_tensor


def test_a_tensor_that_is_marked_as_a_folder(path):
    """One bit in the list of records, outside of all checksums."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    name = whole.index(b'data/0', start) - len(path.stem) - 1
    flip(path, whole, name - 8, 0x10)  # attributes, in an entry of 46 bytes
    assert 'data/0 is marked as a folder' in find_damage(path)
    with pytest.raises(UserError, match='it is damaged'):
        load_torch_file(path)


@pytest.mark.parametrize('mmap', [False, True])
def test_other_bytes_and_files_that_were_cut(path, mmap):
    whole, noise = path.read_bytes(), np.random.default_rng(0).bytes(300)
    lengths = (0, 1, 2, 3, 4, 30, 500, -1000, -22, -1)
    starts = (b'', b'PK', b'PK\x03\x04', b'\x80\x02', b'<html>')
    for content in (
        *(whole[:length] for length in lengths),
        *(whole[:-zeros] + bytes(zeros) for zeros in (22, 100, 2000)),
        *(start + noise for start in starts),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match='not a file .* truncated'):
            load_torch_file(path, mmap)


def test_what_the_machine_lacks_is_not_blamed_on_the_file(path, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(torch, 'load', fail)
    with pytest.raises(MemoryError):
        load_torch_file(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        load_torch_file(path)
