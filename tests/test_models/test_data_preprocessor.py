"""The device half of the pipeline against MMPretrain's preprocessor."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.models import SelfSupDataPreprocessor

from pixcon_mm.datasets import SamplePhotometrics
from pixcon_mm.errors import UserError
from pixcon_mm.models import TwoViewDataPreprocessor, data_preprocessor
from pixcon_mm.models.photometrics import augment
from tests.test_models import tiny

STATISTICS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


@pytest.mark.parametrize(
    'options', [{}, STATISTICS, dict(bgr_to_rgb=True, **STATISTICS)], ids=str
)
def test_normalises_as_mmpretrain(options):
    data = tiny.batch(pixels=8)
    ours = TwoViewDataPreprocessor(**options)(data, True)
    theirs = SelfSupDataPreprocessor(**options)(
        dict(inputs=data['inputs'], data_samples=None), True
    )
    for a, b in zip(ours['inputs'], theirs['inputs'], strict=True):
        torch.testing.assert_close(a, b)
    for name, value in data['data_samples'].items():
        assert torch.equal(getattr(ours['geometry'], name), value)


@pytest.mark.parametrize('to_rgb', [True, False])
def test_augments_each_view_by_its_own_numbers(to_rgb):
    np.random.seed(0)
    data, size = tiny.batch(size=6, pixels=16), 6
    sample = SamplePhotometrics([dict(blur=0.5), dict(solarize=0.5)])
    numbers = default_collate(
        [sample({})['photometrics'] for _ in range(size)]
    )
    data['data_samples']['photometrics'] = numbers
    before = [view.clone() for view in data['inputs']]
    finished = TwoViewDataPreprocessor(bgr_to_rgb=to_rgb)(data, True)
    for index, view in enumerate(before):
        rgb = view.flip(1).float() / 255
        mine = {name: value[:, index] for name, value in numbers.items()}
        expected = 255 * augment(rgb, mine)
        expected = expected if to_rgb else expected.flip(1)
        torch.testing.assert_close(finished['inputs'][index], expected)
        assert torch.equal(data['inputs'][index], view)  # left as they were


@pytest.mark.parametrize(
    ('device', 'option', 'training', 'compiled'),
    [
        ('cpu', True, True, False),
        *(
            pytest.param('cuda', *case, marks=pytest.mark.gpu)
            for case in (
                (True, True, True),
                (False, True, False),
                (True, False, False),
            )
        ),
    ],
)
def test_when_colours_are_compiled(
    device, option, training, compiled, monkeypatch
):
    data, asked = tiny.batch(pixels=8), []
    data['data_samples']['photometrics'] = dict(numbers=torch.ones(4, 2))
    monkeypatch.setattr(
        data_preprocessor,
        'augment',
        lambda images, _, compiled: asked.append(compiled) or images,
    )
    ours = TwoViewDataPreprocessor(compile_colors=option).to(device)
    ours.train(training)(data, True)
    assert asked == [compiled] * 2


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda d: d.update(inputs=d['inputs'][0]), 'gave one batch'),
        (lambda d: d.update(inputs=d['inputs'][:1]), 'gave a list of 1'),
        (lambda d: d.update(data_samples=None), 'crop_boxes'),
        (lambda d: d.pop('data_samples'), 'crop_boxes'),
        (lambda d: d['data_samples'].pop('flips'), 'flips'),
    ],
)
def test_wrong_batches_are_refused(spoil, message):
    data = tiny.batch(pixels=8)
    spoil(data)
    with pytest.raises(UserError, match=message):
        TwoViewDataPreprocessor()(data)
