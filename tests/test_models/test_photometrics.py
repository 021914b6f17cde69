"""Batched operations against torchvision's, image by image."""

import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmpretrain.registry import TRANSFORMS
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as tv

from pixcon_mm.datasets import SamplePhotometrics
from pixcon_mm.models import photometrics as ours
from tests import DEVICES, ROOT, needs_compiler
from tests.test_datasets.pictures import picture

FACTORS = torch.tensor([0.0, 0.6, 1.0, 1.3, 1.9])
SHIFTS = torch.tensor([-0.5, -0.1, 0.0, 0.07, 0.5])
SIGMAS = torch.tensor([0.1, 0.7, 1.0, 1.6, 2.0])


def blur(image, sigma):
    """torchvision's, three standard deviations wide to either side."""
    size = 2 * math.ceil(3 * sigma) + 1
    return tv.gaussian_blur(image, [size, size], [sigma, sigma])


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def images(request):
    images = torch.rand((5, 3, 20, 24), dtype=request.param)
    images[0, :, 0] = images[0, :1, 0]  # grey: no hue
    images[0, :, 1] = 0  # black
    images[1, 1] = images[1, 0]  # ties of two channels
    return images


@pytest.mark.parametrize(
    ('operation', 'theirs', 'numbers'),
    [
        (ours.adjust_brightness, tv.adjust_brightness, FACTORS),
        (ours.adjust_contrast, tv.adjust_contrast, FACTORS),
        (ours.adjust_saturation, tv.adjust_saturation, FACTORS),
        (ours.adjust_hue, tv.adjust_hue, SHIFTS),
        (lambda x, s: ours.gaussian_blur(x, s, largest=2), blur, SIGMAS),
    ],
)
def test_equals_torchvision(images, operation, theirs, numbers):
    actual = operation(images, numbers.to(images.dtype))
    expected = [
        theirs(image[None], float(number))
        for image, number in zip(images, numbers, strict=True)
    ]
    # torchvision rounds kernels and guards of divisions to float32.
    torch.testing.assert_close(actual, torch.cat(expected), rtol=0, atol=2e-6)


def test_blur_of_an_image_smaller_than_its_kernel():
    image = torch.rand(1, 3, 4, 30)
    blurred = ours.gaussian_blur(image, torch.tensor([2.0]), largest=2)
    expected = tv.gaussian_blur(image, [7, 7], [2.0, 2.0])
    torch.testing.assert_close(blurred, expected, rtol=0, atol=2e-6)


def numbers_of(size):
    """Numbers for a batch; nothing is done to the first image."""
    order = torch.stack([torch.randperm(4) for _ in range(size)])
    order[:2] = ours.NO_OPERATION
    factors = 0.6 + 0.8 * torch.rand(size, 4)
    factors[:, 3] = (factors[:, 3] - 1) / 4
    numbers = dict(
        order=order,
        factors=factors,
        grayscale=torch.rand(size) < 0.3,
        sigma=2 * torch.rand(size) * (torch.rand(size) < 0.5),
        solarize=torch.rand(size) < 0.3,
    )
    for name in ('grayscale', 'sigma', 'solarize'):
        numbers[name][0] = 0
    return numbers


def slowly(image, numbers):
    """One image, by torchvision, in its own order."""
    jitter = [
        getattr(tv, f'adjust_{name}')
        for name in ('brightness', 'contrast', 'saturation', 'hue')
    ]
    for number in numbers['order'].tolist():
        if number != ours.NO_OPERATION:
            image = jitter[number](image, float(numbers['factors'][number]))
    if numbers['grayscale']:
        image = tv.rgb_to_grayscale(image, num_output_channels=3)
    if numbers['sigma']:
        image = blur(image, float(numbers['sigma']))
    if numbers['solarize']:
        image = tv.solarize(image, 128 / 255)
    return image


@pytest.mark.parametrize(
    ('device', 'compiled'),
    [
        ('cpu', False),
        pytest.param('cuda', False, marks=pytest.mark.gpu),
        pytest.param('cuda', True, marks=pytest.mark.gpu),
    ],
)
@pytest.mark.parametrize('autocast', [False, True])
def test_augments_each_image_by_its_own_numbers(autocast, device, compiled):
    size = 24
    before, numbers = torch.rand(size, 3, 20, 24), numbers_of(size)
    images = before.clone().to(device)
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        actual = ours.augment(images, numbers, compiled).cpu()
    for index in range(size):
        mine = {name: value[index] for name, value in numbers.items()}
        expected = slowly(before[index : index + 1], mine)[0]
        difference = (actual[index] - expected).abs()
        # Rounding may turn a pixel on the edge of solarisation.
        assert (difference < 1e-5).float().mean() > 0.999, index
    changed = (actual != before).flatten(1).any(1)
    assert not changed[0]
    assert changed[2:].float().mean() > 0.9


def test_all_operations_for_all_images_give_the_same():
    images, numbers = torch.rand(24, 3, 20, 24), numbers_of(24)
    arguments = [numbers[k] for k in ('factors', 'order', 'grayscale')]
    actual = ours.jitter_all(images, *arguments)
    for name in ('sigma', 'solarize'):
        numbers[name].zero_()
    expected = ours.augment(images.clone(), numbers)
    torch.testing.assert_close(actual, expected)


def test_the_compiled_jitter_takes_the_place_of_the_others(monkeypatch):
    images, numbers = torch.rand(24, 3, 20, 24), numbers_of(24)
    expected = ours.augment(images.clone(), numbers)
    asked = []

    def compiled(device, shape):
        assert not torch.is_autocast_enabled('cpu')
        assert not torch.is_grad_enabled()
        asked.append((device, shape))
        return ours.jitter_all

    monkeypatch.setattr(ours, 'compiled_jitter', compiled)
    with torch.autocast('cpu'):
        actual = ours.augment(images, numbers, compiled=True)
    torch.testing.assert_close(actual, expected)
    assert asked == [(images.device, images.shape)]


@pytest.mark.gpu
def test_the_compiled_jitter_does_not_wait():
    images = torch.rand(24, 3, 20, 24, device='cuda')
    with torch.no_grad():
        assert ours.compiled_jitter(images.device, images.shape)
    ours.augment(images, numbers_of(24), compiled=True)
    with sync_errors(), forbid_compiling():
        ours.augment(images, numbers_of(24), compiled=True)


@contextmanager
def sync_errors():
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def forbid_compiling():
    return torch._dynamo.config.patch(error_on_recompile=True)


@pytest.mark.parametrize(
    ('error', 'shown'),
    [
        (RuntimeError('Failed to find C compiler.\nMore.'), 'C compiler.'),
        (AssertionError(), 'AssertionError'),
    ],
)
def test_without_a_compiler(error, shown, monkeypatch, capsys):
    def fails(*_):
        raise error

    monkeypatch.setattr(torch, 'compile', lambda *_, **__: fails)
    shape = torch.Size([2, 3, 8, 8])
    jitter = ours.compiled_jitter.__wrapped__(torch.device('cpu'), shape)
    assert jitter is None
    warning = capsys.readouterr().out
    assert f'compile_colors=False. {type(error).__name__}' in warning
    assert shown in warning
    assert 'More' not in warning


@needs_compiler
def test_one_compilation_is_enough():
    """That of the trial, on zeros."""
    shape = torch.Size([24, 3, 20, 24])
    with torch.no_grad():
        jitter = ours.compiled_jitter(torch.device('cpu'), shape)
    assert jitter
    cfg = Config.fromfile(ROOT / 'configs/pretrain/pixcon_r50_coco.py')
    sample = SamplePhotometrics([cfg.view1, cfg.view2])
    numbers = default_collate([sample({})['photometrics'] for _ in range(24)])
    # Contiguous, as a copy to a GPU is.
    mine = {name: value[:, 1].contiguous() for name, value in numbers.items()}
    images = torch.rand(shape)
    expected = ours.augment(images.clone(), mine)
    with forbid_compiling():
        actual = ours.augment(images, mine, compiled=True)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def statistics(images):
    """Mean and contrast of each channel, and sharpness: (B, 7)."""
    images = torch.as_tensor(images, dtype=torch.float64)
    sharpness = images.diff(dim=3).abs().mean((1, 2, 3))
    parts = images.mean((2, 3)), images.std((2, 3)), sharpness[:, None]
    return torch.cat(parts, 1)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('view', [0, 1])
def test_distribution_is_that_of_the_loaders_transforms(view, device):
    """MMPretrain's, on Pillow, image by image."""
    np.random.seed(0)
    count, rgb = 800, np.array(picture(width=32, height=24))
    cfg = Config.fromfile(ROOT / 'configs/pretrain/pixcon_r50_cpu-aug_coco.py')
    transforms = [
        TRANSFORMS.build(dict(t, _scope_='mmpretrain'))
        for t in (cfg.cpu_view1, cfg.cpu_view2)[view]
    ]
    theirs = []
    for _ in range(count):
        results = dict(img=np.ascontiguousarray(rgb[..., ::-1]))
        for transform in transforms:
            results = transform(results)
        theirs.append(results['img'][..., ::-1].transpose(2, 0, 1) / 255)
    sample = SamplePhotometrics([cfg.view1, cfg.view2])
    numbers = default_collate(
        [sample({})['photometrics'] for _ in range(count)]
    )
    images = torch.from_numpy(rgb.transpose(2, 0, 1)[None] / 255).float()
    mine = ours.augment(
        images.repeat(count, 1, 1, 1).to(device),
        {name: value[:, view] for name, value in numbers.items()},
    )
    a, b = statistics(np.stack(theirs)), statistics(mine.cpu())
    error = ((a.var(0) + b.var(0)) / count).sqrt()
    # Pillow rounds to whole grey levels after every operation.
    assert ((a.mean(0) - b.mean(0)).abs() < 4 * error + 1 / 255).all()
    assert (a.std(0) / b.std(0) - 1).abs().max() < 0.2


def test_a_larger_batch_needs_no_more_operations():
    class Count(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.operations += 1
            return func(*args, **(kwargs or {}))

    def operations(size):
        images, numbers = torch.rand(size, 3, 8, 8), numbers_of(size)
        with Count() as count:
            ours.augment(images, numbers)
        return count.operations

    # Every operation is in every place of the order already.
    assert operations(400) == operations(100)
