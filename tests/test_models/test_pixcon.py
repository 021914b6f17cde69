"""Variants, geometry, backbones and mistakes of the whole model."""

import copy

import pytest
import torch

from pixcon_mm.errors import UserError
from pixcon_mm.models.pixcon import MAX_PENDING
from tests.test_models import tiny

SIM = dict(reweight=None)
COORD = dict(matching='coordinate', reweight=None)


def losses(model, data=None):
    data = model.data_preprocessor(data or tiny.batch(), training=True)
    return model.loss(data['inputs'], data['data_samples'])


def matches(model, data):
    data = model.data_preprocessor(data)
    queries = [model.neck(model.backbone(v)) for v in data['inputs']]
    return model.head.match(queries, queries, data['data_samples'])


def full_crops(data, flips=((False, False),)):
    """Both views show the same crop."""
    size = len(data['inputs'][0])
    data['data_samples'] = dict(
        crop_boxes=torch.tensor([0.0, 0.0, 96.0, 96.0]).expand(size, 2, 4),
        flips=torch.tensor(flips).expand(size, 2),
    )
    return data


def test_moco_has_no_dense_branch():
    model = tiny.build(loss_lambda=0)
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if 'dense' in name]
    assert model.dense_queue is None
    result = losses(model)
    assert list(result) == ['loss_image']
    sum(result.values()).backward()
    model.after_optimizer_step(0.0)
    assert model.image_queue.count == 4
    assert 'overlap' not in model.monitors


@pytest.mark.parametrize('loss_lambda', [0, 0.5, 1.0])
@pytest.mark.parametrize('head', [{}, SIM, COORD])
def test_every_trained_parameter_gets_a_gradient(loss_lambda, head):
    """DDP runs with find_unused_parameters=False."""
    model = tiny.build(loss_lambda=loss_lambda, head=head)
    sum(losses(model).values()).backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
        assert p.requires_grad != name.startswith('key_encoder'), name


def test_lambda_weighs_the_two_losses():
    half, most = tiny.build(loss_lambda=0.5), tiny.build(loss_lambda=0.75)
    most.load_state_dict(half.state_dict())
    at_half, at_most = losses(half), losses(most)
    torch.testing.assert_close(
        at_most['loss_dense'], at_half['loss_dense'] * 1.5
    )
    torch.testing.assert_close(
        at_most['loss_image'], at_half['loss_image'] * 0.5
    )


def test_sim_is_the_plain_mean():
    model = tiny.build(head=SIM)
    _, weight, _ = matches(model, tiny.batch())
    assert torch.equal(weight, torch.ones_like(weight))


def test_coordinates_of_equal_crops_are_the_identity():
    model = tiny.build(head=COORD)
    index, weight, mask = matches(model, full_crops(tiny.batch()))
    assert torch.equal(index, torch.arange(9).expand(2, 4, 9))
    assert weight.all()
    assert mask.all()


def test_coordinates_follow_a_flip():
    model = tiny.build(head=COORD)
    data = full_crops(tiny.batch(), flips=((True, False),))
    index, _, _ = matches(model, data)
    mirrored = torch.tensor([2, 1, 0, 5, 4, 3, 8, 7, 6])
    assert torch.equal(index, mirrored.expand(2, 4, 9))


def test_coord_counts_only_the_overlap():
    model = tiny.build(head=COORD)
    _, weight, mask = matches(model, tiny.batch())
    assert torch.equal(weight, mask.float())
    assert 0 < mask.float().mean() < 1


def test_coord_without_overlap_adds_nothing():
    model = tiny.build(head=COORD)
    data = tiny.batch()
    boxes = torch.tensor([[0.0, 0, 50, 50], [100, 100, 200, 200]])
    data['data_samples']['crop_boxes'] = boxes.expand(4, 2, 4)
    result = losses(model, data)
    assert result['loss_dense'].item() == 0
    result['loss_dense'].backward()
    grads = [p.grad for p in model.head.dense_predictor.parameters()]
    assert all(not g.any() for g in grads)


def test_reweighted_coord_joins_both_matchings():
    data = tiny.batch()
    both = tiny.build(head=dict(matching='coordinate'))
    coord, sim = tiny.build(head=COORD), tiny.build(head={})
    for model in (coord, sim):
        model.load_state_dict(both.state_dict())
    both, coord, sim = (matches(m, data) for m in (both, coord, sim))
    mask = both[2]
    assert torch.equal(both[0], torch.where(mask, coord[0], sim[0]))
    assert torch.equal(both[1], sim[1])
    assert (both[1][mask] == 1).all()


def test_max_distance_leaves_out_far_matches():
    """Without a threshold, nearest means within half a key diagonal."""
    data = tiny.batch()
    far = matches(tiny.build(head=COORD), data)[1].mean()
    some = matches(tiny.build(head=dict(COORD, max_distance=0.2)), data)[1]
    none = matches(tiny.build(head=dict(COORD, max_distance=0.0)), data)[1]
    assert none.mean() < some.mean() < far


BACKBONES = {
    'resnet18': (dict(type='ResNet', depth=18, norm_cfg=tiny.NORM), 512, 96),
    'resnet50': (dict(type='ResNet', depth=50, norm_cfg=tiny.NORM), 2048, 64),
    'convnext': (
        dict(
            type='ConvNeXt',
            arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]),
            gap_before_final_norm=False,
        ),
        32,
        96,
    ),
    'vit': (
        dict(
            type='VisionTransformer',
            arch=dict(
                embed_dims=32,
                num_layers=2,
                num_heads=2,
                feedforward_channels=64,
            ),
            img_size=64,
            patch_size=16,
            out_type='featmap',
        ),
        32,
        64,
    ),
}


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('name', BACKBONES)
def test_any_backbone_with_one_map(name, channels_last):
    backbone, channels, pixels = BACKBONES[name]
    model = tiny.build(
        backbone=backbone, in_channels=channels, channels_last=channels_last
    )
    result = losses(model, tiny.batch(size=2, pixels=pixels))
    sum(result.values()).backward()
    assert all(torch.isfinite(value) for value in result.values())
    grads = [p.grad for p in model.backbone.parameters() if p.requires_grad]
    assert all(grad is not None for grad in grads)


def test_any_input_size_and_grid():
    """A grid of 3 x 5 cells, not square."""
    model = tiny.build()
    data = tiny.batch()
    data['inputs'] = [view[:, :, :, :64] for view in data['inputs']]
    wide = [torch.cat([v, v, v], dim=3)[..., :160] for v in data['inputs']]
    data['inputs'] = wide
    index, weight, mask = matches(model, data)
    assert index.shape == weight.shape == mask.shape == (2, 4, 15)
    assert torch.isfinite(losses(model, data)['loss_dense'])


def test_accumulation_equals_one_large_enqueue():
    """Two batches and one step: one update, both batches' keys enqueued."""
    model = tiny.build()
    before = copy.deepcopy(model.key_encoder.state_dict())
    for seed in (0, 1):
        losses(model, tiny.batch(seed=seed))
        assert model.image_queue.count == 0
    model.after_optimizer_step(0.0)
    assert model.image_queue.count == model.dense_queue.count == 8
    same = [
        torch.equal(p, before[n])
        for n, p in model.key_encoder.named_parameters()
    ]
    assert all(same)  # the query has not moved, so neither has the key


def test_forgotten_hook_is_told():
    model = tiny.build()
    model._pending = [(None, None)] * MAX_PENDING
    with pytest.raises(RuntimeError, match='KeyEncoderUpdateHook'):
        losses(model)


def test_monitors_are_what_they_say():
    model = tiny.build()
    data = full_crops(tiny.batch())
    losses(model, data)
    assert model.monitors['overlap'] == 1
    assert model.monitors['weight'] == 1
    assert -1 <= model.monitors['pos_sim'] <= 1
    assert 0 < model.monitors['feat_std'] < 1.1
    # ln K plus half the variance of N(0, 1/C) / tau (reference file, 1.4).
    expected = torch.tensor(96.0).log() + 0.5 / 16 / 0.2**2
    assert abs(model.monitors['neg_lse'] - expected) < 0.3


def test_equal_features_show_as_collapse():
    model = tiny.build()
    last = model.head.dense_predictor[3]
    torch.nn.init.zeros_(last.weight)
    losses(model)
    assert model.monitors['feat_std'] < 1e-3


def test_key_encoder_starts_as_the_query():
    model = tiny.build()
    query = model.state_dict()
    for name, value in model.key_encoder.state_dict().items():
        assert torch.equal(value, query[name]), name


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda d: d.update(inputs=d['inputs'][0]), 'two views of each'),
        (lambda d: d.update(inputs=d['inputs'][:1]), 'two batches of views'),
        (lambda d: d.update(data_samples=None), 'crop_boxes'),
        (lambda d: d.pop('data_samples'), 'crop_boxes'),
        (lambda d: d['data_samples'].pop('flips'), 'flips'),
    ],
)
def test_wrong_batches_say_so(spoil, message):
    model, data = tiny.build(), tiny.batch()
    spoil(data)
    with pytest.raises(UserError, match=message):
        losses(model, data)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(head=dict(matching='both')), "matching='both'"),
        (dict(head=dict(mask_rule='all')), "mask_rule='all'"),
        (dict(head=dict(reweight=dict(pow=2))), "'pow'"),
        (dict(head=dict(max_distance=1.0)), 'max_distance'),
        (dict(loss_lambda=2), 'loss_lambda=2'),
        (dict(base_momentum=0.99), 'base_momentum'),
        (dict(queue_length=4), 'queue_length'),
    ],
)
def test_wrong_settings_say_so(kwargs, message):
    with pytest.raises((UserError, TypeError), match=message):
        tiny.build(**kwargs)


@pytest.mark.parametrize(
    ('backbone', 'channels', 'message'),
    [
        (dict(tiny.RESNET, out_indices=(2, 3)), 64, 'one feature map'),
        (dict(tiny.RESNET), 32, 'in_channels=64'),
    ],
)
def test_wrong_feature_maps_say_so(backbone, channels, message):
    model = tiny.build(backbone=backbone, in_channels=channels)
    with pytest.raises(UserError, match=message):
        losses(model)


def test_views_are_normalised_rgb():
    model, data = tiny.build(), tiny.batch()
    view = model.data_preprocessor(data)['inputs'][0]
    blue_first = data['inputs'][0].float()
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    torch.testing.assert_close(view, (blue_first.flip(1) - mean) / std)
