"""One training step against an independent, naive implementation.

Written from docs/method.md, sections 1 to 8, with loops over images and
cells; it shares with the package only the layers' weights.
"""

import copy
import math
from itertools import product

import pytest
import torch
from torch.nn.functional import relu

from pixcon_mm.models.pixcon import pick_view_to_enqueue
from tests.test_models import tiny

TAU, LAMBDA, POWER = 0.2, 0.5, 2


def unit(vector):
    return vector / vector.norm().clamp(min=1e-12)


def batch_norm(rows, layer):
    mean, var = rows.mean(0), rows.var(0, unbiased=False)
    return (rows - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias


def perceptron(rows, layers):
    """Linear, norm, ReLU, linear on rows; 1x1 convolutions are linear."""
    first, norm, _, last = layers
    hidden = rows @ first.weight.flatten(1).T + first.bias
    hidden = relu(batch_norm(hidden, norm))
    return hidden @ last.weight.flatten(1).T + last.bias


def encode(backbone, neck, view):
    """Backbone cells (B, N, D), image (B, C) and cell (B, N, C) rows."""
    (feature_map,) = backbone(view)
    cells = feature_map.flatten(2).transpose(1, 2)
    image = perceptron(cells.mean(1), neck.projector)
    size, count, width = cells.shape
    dense = perceptron(cells.reshape(-1, width), neck.dense_projector)
    return cells, image, dense.view(size, count, -1)


def contrast(query, key, queue):
    top = math.e ** (query @ key / TAU)
    return -torch.log(top / (top + (math.e ** (queue @ query / TAU)).sum()))


def inside(boxes, flips, view, grid):
    """Cells of a view whose centre lies in the other view's crop."""
    (x1, y1, x2, y2), other = boxes[view], boxes[1 - view]
    mask = []
    for y, x in product(range(grid), range(grid)):
        column = grid - 1 - x if flips[view] else x
        px = x1 + (column + 0.5) / grid * (x2 - x1)
        py = y1 + (y + 0.5) / grid * (y2 - y1)
        is_across = other[0] <= px < other[2]
        mask.append(is_across and other[1] <= py < other[3])
    return mask


def weigh(similarity, mask):
    lowest = min(similarity)
    outside = [r for r, m in zip(similarity, mask, strict=True) if not m]
    return [
        1.0 if m else ((r - lowest) / (max(outside) - lowest)) ** POWER
        for r, m in zip(similarity, mask, strict=True)
    ]


def naive_losses(model, views, geometry):
    """The two losses, and the keys of both views for the queues."""
    head = model.head
    queries = [encode(model.backbone, model.neck, view) for view in views]
    with torch.no_grad():
        encoder = model.key_encoder
        keys = [encode(encoder.backbone, encoder.neck, v) for v in views]
    image_loss = dense_loss = 0
    for a, b in ((0, 1), (1, 0)):
        f_query, image, cells = queries[a]
        f_key, key_image, key_cells = keys[b]
        predicted = perceptron(image, head.predictor)
        image_loss += (1 - LAMBDA) * torch.stack(
            [
                contrast(unit(u), unit(v), model.image_queue.features)
                for u, v in zip(predicted, key_image, strict=True)
            ]
        ).mean()
        size, count, width = cells.shape
        rows = perceptron(cells.reshape(-1, width), head.dense_predictor)
        rows = rows.view(size, count, -1)
        total = weights = 0
        for n in range(size):
            matched, losses = [], []
            for i in range(count):
                sims = [
                    float(unit(f_query[n, i].detach()) @ unit(f_key[n, j]))
                    for j in range(count)
                ]
                j = max(range(count), key=sims.__getitem__)
                matched.append(sims[j])
                losses.append(
                    contrast(
                        unit(rows[n, i]),
                        unit(key_cells[n, j]),
                        model.dense_queue.features,
                    )
                )
            mask = inside(
                geometry.crop_boxes[n].tolist(),
                geometry.flips[n].tolist(),
                a,
                math.isqrt(count),
            )
            for w, loss in zip(weigh(matched, mask), losses, strict=True):
                total = total + w * loss
                weights += w
        dense_loss = dense_loss + LAMBDA * total / weights
    new_keys = [
        (
            torch.stack([unit(v) for v in image]),
            torch.stack([unit(v.mean(0)) for v in cells]),
        )
        for _, image, cells in keys
    ]
    return image_loss, dense_loss, new_keys


def put(ring, rows, at):
    ring = ring.clone()
    for i, row in enumerate(rows):
        ring[(at + i) % len(ring)] = row
    return ring


@pytest.mark.parametrize('seed', [0, 1])
def test_one_step_equals_the_naive_implementation(seed):
    torch.manual_seed(seed)
    model = tiny.build()
    # Not at the start of training: the two encoders already differ.
    with torch.no_grad():
        for p in model.key_encoder.parameters():
            p.add_(0.05 * torch.randn_like(p) * p.std())
    reference = copy.deepcopy(model)
    data = model.data_preprocessor(tiny.batch(seed=seed), training=True)
    views, geometry = data['inputs'], data['geometry']

    ours = model.loss(views, geometry)
    image, dense, new_keys = naive_losses(reference, views, geometry)
    close = dict(rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours['loss_image'], image, **close)
    torch.testing.assert_close(ours['loss_dense'], dense, **close)

    for losses in (ours.values(), (image, dense)):
        sum(losses).backward()
    grads = dict(model.named_parameters())
    for name, p in reference.named_parameters():
        if name.startswith('key_encoder.'):
            assert grads[name].grad is None
            continue
        scale = p.grad.abs().max().item()
        torch.testing.assert_close(
            grads[name].grad,
            p.grad,
            rtol=1e-4,
            # A bias before a batch norm has a gradient of rounding alone.
            atol=max(1e-4 * scale, 1e-6),
            msg=lambda m, name=name: f'{name}: {m}',
        )

    optimizer = tiny.sgd(model, lr=0.4, momentum=0.9, weight_decay=1e-4)
    old_keys = {n: p.clone() for n, p in model.key_encoder.named_parameters()}
    rings = [
        q.features.clone() for q in (model.image_queue, model.dense_queue)
    ]
    optimizer.step()
    model.after_optimizer_step(progress=0.25)

    m = 1 - (1 - 0.99) * (math.cos(math.pi * 0.25) + 1) / 2
    for name, p in model.key_encoder.named_parameters():
        query = model.get_parameter(name)
        torch.testing.assert_close(p, m * old_keys[name] + (1 - m) * query)
    written = [
        [put(ring, rows, 0) for ring, rows in zip(rings, pair, strict=True)]
        for pair in new_keys
    ]
    view = pick_view_to_enqueue(0, 0)
    torch.testing.assert_close(model.image_queue.features, written[view][0])
    torch.testing.assert_close(model.dense_queue.features, written[view][1])
    assert not torch.allclose(written[0][0], written[1][0], atol=1e-3)


def test_the_view_to_enqueue_is_picked_evenly():
    """Both views come equally often, and without a pattern."""
    views = [pick_view_to_enqueue(512 * t, 0) for t in range(4000)]
    changes = sum(a != b for a, b in zip(views, views[1:], strict=False))
    for count in (sum(views), changes):
        assert abs(count - 2000) < 4 * math.sqrt(1000)
