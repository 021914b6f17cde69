"""The table of docs/early_training.py, on a few pictures."""

import math

import pytest

from tests.commands import run
from tests.test_datasets.pictures import write_pictures


@pytest.mark.slow
@pytest.mark.parametrize('negatives', ['means', 'cells'])
def test_the_queue_takes_on_the_direction_of_keys(tmp_path, negatives):
    images = write_pictures(tmp_path / 'images', 8)
    done = run(
        'docs/early_training.py',
        'configs/pretrain/pixcon_r18-w32_small.py',
        *('--iterations', 5, '--every', 4, '--negatives', negatives),
        *('--cfg-options', f'data_root={images}', 'model.queue_len=16'),
        *('train_dataloader.batch_size=4', 'train_dataloader.num_workers=0'),
        'train_dataloader.persistent_workers=False',
    )
    assert done.returncode == 0, done.stderr
    lines = [x.split(' | ') for x in done.stdout.splitlines() if ' | ' in x]
    header, first, last = lines
    assert (first[0], last[0]) == ('0', '4')
    first, last = (
        dict(zip(header, map(float, line), strict=True))
        for line in (first, last)
    )
    assert all(map(math.isfinite, [*first.values(), *last.values()]))
    assert first['R queue'] < last['R queue'] <= 1
    # A cell has less of the common direction than a mean of cells.
    is_mean = last['R enqueued'] > last['R cells'] + 0.1
    assert is_mean is (negatives == 'means')
