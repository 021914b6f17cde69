"""Batched operations against torchvision's, image by image."""

import colorsys
import math

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from pixcon_mm.models import photometrics as ours

SIZE = (5, 3, 20, 24)
FACTORS = torch.tensor([0.0, 0.6, 1.0, 1.3, 1.9])
SHIFTS = torch.tensor([-0.5, -0.1, 0.0, 0.07, 0.5])
SIGMAS = torch.tensor([0.1, 0.7, 1.0, 1.6, 2.0])


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def images(request):
    images = torch.rand(SIZE, dtype=request.param)
    images[0, :, 0] = images[0, :1, 0]  # grey: no hue
    images[0, :, 1] = 0  # black
    images[1, 1] = images[1, 0]  # ties of two channels
    return images


def one_by_one(operation, images, numbers):
    return torch.cat(
        [
            operation(image[None], float(number))
            for image, number in zip(images, numbers, strict=True)
        ]
    )


def close(actual, expected):
    atol = 2e-6 if actual.dtype == torch.float32 else 2e-8
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
def test_factors_equal_torchvision(images, name):
    name = f'adjust_{name}'
    actual = getattr(ours, name)(images, FACTORS.to(images.dtype))
    close(actual, one_by_one(getattr(tv, name), images, FACTORS))


def test_hue_equals_torchvision(images):
    actual = ours.adjust_hue(images, SHIFTS.to(images.dtype))
    # torchvision guards divisions by adding to them, in float64 too.
    torch.testing.assert_close(
        actual, one_by_one(tv.adjust_hue, images, SHIFTS), rtol=0, atol=2e-6
    )


def test_hue_equals_colorsys():
    image = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    expected = torch.empty_like(image)
    for y in range(4):
        for x in range(4):
            hue, *rest = colorsys.rgb_to_hsv(*image[0, :, y, x].tolist())
            pixel = colorsys.hsv_to_rgb((hue + 0.3) % 1, *rest)
            expected[0, :, y, x] = torch.tensor(pixel)
    shift = torch.tensor([0.3], dtype=torch.float64)
    torch.testing.assert_close(ours.adjust_hue(image, shift), expected)


def test_grayscale_equals_torchvision(images):
    close(ours.grayscale(images), tv.rgb_to_grayscale(images))


def test_solarize_equals_torchvision(images):
    expected = tv.solarize(images, ours.SOLARIZE_FROM)
    close(ours.solarize(images), expected)


def blur(image, sigma):
    """torchvision's, three standard deviations wide to either side."""
    size = 2 * math.ceil(3 * sigma) + 1
    return tv.gaussian_blur(image, [size, size], [sigma, sigma])


def test_blur_equals_torchvision(images):
    actual = ours.gaussian_blur(images, SIGMAS.to(images.dtype), largest=2)
    # torchvision makes its kernels in float32.
    torch.testing.assert_close(
        actual, one_by_one(blur, images, SIGMAS), rtol=0, atol=2e-6
    )


def test_blur_of_an_image_does_not_depend_on_the_others(images):
    sigmas = SIGMAS.to(images.dtype)
    together = ours.gaussian_blur(images, sigmas, largest=2)
    for row in range(len(images)):
        alone = ours.gaussian_blur(
            images[row : row + 1],
            sigmas[row : row + 1],
            largest=float(sigmas[row]),
        )
        eps = torch.finfo(images.dtype).eps
        torch.testing.assert_close(
            together[row], alone[0], rtol=0, atol=8 * eps
        )


def test_blur_of_an_image_smaller_than_its_kernel():
    image = torch.rand(1, 3, 4, 30)
    blurred = ours.gaussian_blur(image, torch.tensor([2.0]), largest=2)
    expected = tv.gaussian_blur(image, [7, 7], [2.0, 2.0])
    close(blurred, expected)


def drawn(size, seed=0):
    """Numbers for a batch, some of them meaning: nothing."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack(
        [torch.randperm(4, generator=generator) for _ in range(size)]
    )
    order[:2] = ours.NO_OPERATION
    factors = 0.6 + 0.8 * torch.rand(size, 4, generator=generator)
    factors[:, 3] = (factors[:, 3] - 1) / 4
    numbers = dict(
        order=order,
        factors=factors,
        grayscale=torch.rand(size, generator=generator) < 0.3,
        sigma=2
        * torch.rand(size, generator=generator)
        * (torch.rand(size, generator=generator) < 0.5),
        solarize=torch.rand(size, generator=generator) < 0.3,
    )
    for name in ('grayscale', 'sigma', 'solarize'):
        numbers[name][0] = 0
    return numbers


def slowly(image, numbers):
    """One image, by torchvision, in the order that was drawn for it."""
    steps = (
        tv.adjust_brightness,
        tv.adjust_contrast,
        tv.adjust_saturation,
        tv.adjust_hue,
    )
    for number in numbers['order'].tolist():
        if number != ours.NO_OPERATION:
            image = steps[number](image, float(numbers['factors'][number]))
    if numbers['grayscale']:
        image = tv.rgb_to_grayscale(image, num_output_channels=3)
    sigma = float(numbers['sigma'])
    if sigma:
        image = blur(image, sigma)
    return (
        tv.solarize(image, ours.SOLARIZE_FROM)
        if numbers['solarize']
        else image
    )


def test_augment_does_to_each_image_what_was_drawn_for_it():
    size = 24
    images, numbers = torch.rand(size, 3, 20, 24), drawn(size)
    before = images.clone()
    actual = ours.augment(images, numbers)
    for index in range(size):
        mine = {name: value[index] for name, value in numbers.items()}
        expected = slowly(before[index : index + 1], mine)[0]
        difference = (actual[index] - expected).abs()
        # Rounding may turn a pixel on the edge of solarisation.
        assert (difference < 1e-5).float().mean() > 0.999, index
    changed = (actual != before).flatten(1).any(1)
    assert not changed[0]
    assert changed[2:].float().mean() > 0.9


def test_augment_ignores_autocast():
    numbers = drawn(8)
    images = torch.rand(8, 3, 20, 24)
    expected = ours.augment(images.clone(), numbers)
    with torch.autocast('cpu', torch.bfloat16):
        actual = ours.augment(images.clone(), numbers)
    assert torch.equal(actual, expected)


def test_nothing_drawn_changes_nothing():
    numbers = dict(
        order=torch.full((3, 4), ours.NO_OPERATION),
        factors=torch.rand(3, 4),
        grayscale=torch.zeros(3, dtype=torch.bool),
        sigma=torch.zeros(3),
        solarize=torch.zeros(3, dtype=torch.bool),
    )
    images = torch.rand(3, 3, 8, 8)
    assert torch.equal(ours.augment(images.clone(), numbers), images)
