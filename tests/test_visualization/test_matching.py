"""Pictures of matches show what a training step does."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import Compose, default_collate
from mmengine.registry import DefaultScope
from PIL import Image

from pixcon_mm.datasets.image_header import ORIENTATION
from pixcon_mm.errors import UserError
from pixcon_mm.models.geometry import Geometry, cell_centers
from pixcon_mm.visualization.matching import make_views, match_photographs
from tests.test_datasets.pictures import picture, write_pictures
from tests.test_models import tiny

SMALL = dict(jitter=0, grayscale=0, blur=0, solarize=0)


def build_pipeline(*views, **crop):
    crop = dict(dict(scale=96, area_range=(0.3, 1)), **crop)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Compose(
            [
                dict(type='LoadSceneImage'),
                dict(type='TwoViewRandomResizedCrop', **crop),
                dict(type='TwoViewRandomFlip', prob=0.5 if views else 0),
                dict(type='SamplePhotometrics', views=[*views] or [SMALL] * 2),
                dict(type='PackTwoViewInputs'),
            ]
        )


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photographs')
    write_pictures(folder, 3, width=160, height=120)
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    'head',
    [dict(), dict(matching='coordinate', max_distance=0.5, reweight=None)],
)
def test_arrays_are_those_of_the_step(paths, head):
    """Against an obvious computation from the same batch."""
    model = tiny.build(head=head)
    tiny.disturb(model.key_encoder)  # else both encoders would be the same
    pipeline = build_pipeline(dict(), dict(solarize=1))
    modes = [module.training for module in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    generators = torch.get_rng_state(), np.random.get_state()[1].copy()
    pairs = match_photographs(model, pipeline, paths)
    assert [module.training for module in model.modules()] == modes
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert torch.equal(torch.get_rng_state(), generators[0])
    np.testing.assert_array_equal(np.random.get_state()[1], generators[1])

    samples = default_collate([make_views(pipeline, p, 0) for p in paths])
    data = model.data_preprocessor(samples, True)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    model.eval()
    for i, pair in enumerate(pairs):
        views = [view[i : i + 1] for view in data['inputs']]
        for j, view in enumerate(views):
            pixels = (view[0] * std + mean).permute(1, 2, 0).detach()
            np.testing.assert_allclose(pair.views[j], pixels, atol=0.51)
        np.testing.assert_array_equal(
            pair.photograph, picture(i, 160, 120).convert('RGB')
        )
        with torch.no_grad():
            query = F.normalize(model.backbone(views[0])[0], dim=1)[0]
            key = model.key_encoder.backbone(views[1])[0]
            key = F.normalize(key, dim=1)[0]
        query, key = query.flatten(1).T, key.flatten(1).T
        cosine = (query @ key.T).numpy()
        np.testing.assert_allclose(pair.cosine, cosine, atol=1e-5)
        np.testing.assert_array_equal(
            pair.by_similarity, pair.cosine.argmax(axis=1)
        )
        geometry = Geometry(*(part[i : i + 1] for part in data['geometry']))
        one, two = cell_centers(geometry, pair.grid)[0].numpy()
        distance = np.linalg.norm(one[:, None] - two, axis=2)
        x1, y1, x2, y2 = pair.boxes[1]
        inside = (one > (x1, y1)).all(axis=1) & (one < (x2, y2)).all(axis=1)
        np.testing.assert_array_equal(pair.in_overlap[0], inside)
        nearest = distance.min(axis=1)
        for cell in (inside & (pair.weight[0] > 0)).nonzero()[0]:
            found = distance[cell, pair.by_coordinate[cell]]
            assert found == pytest.approx(nearest[cell], abs=1e-4)
        if not head:
            np.testing.assert_array_equal(pair.weight[0][inside], 1)
        else:
            assert set(pair.weight.flat) <= {0, 1}
        np.testing.assert_array_equal(pair.best[0], pair.cosine.max(axis=1))


def test_crops_lie_on_the_photograph_as_it_is_stored(tmp_path):
    """The boxes of a pre-training ignore EXIF's orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / 'a.jpg'
    picture(0, 160, 120).convert('RGB').save(path, exif=exif)
    (pair,) = match_photographs(tiny.build(), build_pipeline(), [path])
    assert pair.photograph.shape == (120, 160, 3)


@pytest.mark.parametrize('rule', ['similarity', 'coordinate'])
def test_a_changed_rule_is_drawn(paths, rule, monkeypatch):
    model = tiny.build(head=dict(matching=rule))
    match = model.head.match

    def match_first(pair):
        found = match(pair)
        return found._replace(key_cell=torch.zeros_like(found.key_cell))

    monkeypatch.setattr(model.head, 'match', match_first)
    for pair in match_photographs(model, build_pipeline(), paths):
        assert not getattr(pair, f'by_{rule}').any()
        other = dict(similarity='coordinate', coordinate='similarity')[rule]
        assert getattr(pair, f'by_{other}').any()


def test_equal_views_match_themselves(paths):
    """One network for both views of the whole photograph."""
    model = tiny.build()
    # Aspect and area leave one crop only: all of the photograph.
    crop = dict(area_range=(1, 1), aspect_range=(4 / 3, 4 / 3))
    pairs = match_photographs(model, build_pipeline(**crop), paths)
    for pair in pairs:
        rows, columns = pair.grid
        cells = rows * columns
        neighbours = (3 * rows - 2) * (3 * columns - 2)  # of all cells
        right, by_chance, total = pair.near
        assert (right, total) == (cells, cells)
        assert by_chance == pytest.approx(neighbours / cells)
        np.testing.assert_array_equal(pair.by_similarity, range(cells))
        np.testing.assert_array_equal(pair.by_coordinate, range(cells))
        np.testing.assert_allclose(pair.best, 1, atol=1e-5)
        np.testing.assert_array_equal(pair.weight, 1)
        np.testing.assert_array_equal(pair.views[0], pair.views[1])


def test_views_depend_on_seed_and_name_alone(paths):
    pipeline = build_pipeline()

    def boxes(path, seed):
        views = make_views(pipeline, path, seed)
        return views['data_samples']['crop_boxes'].tolist()

    first = boxes(paths[0], 0)
    np.random.rand()
    assert boxes(str(paths[0]), 0) == first
    assert boxes(paths[0], 1) != first
    assert boxes(paths[1], 0) != first
    latin = paths[0].with_name('caf\udce9.jpg')  # a name that is not UTF-8
    shutil.copy(paths[0], latin)
    assert boxes(latin, 0) != first


def test_photographs_without_views_are_named(tmp_path):
    picture(0, 400, 8).save(tmp_path / 'narrow.png')
    (tmp_path / 'broken.png').write_bytes(b'no image')
    for name in ('narrow.png', 'broken.png'):
        with pytest.raises(UserError, match=f'{name}.*leave it out'):
            make_views(
                build_pipeline(area_range=(0.01, 0.02), min_overlap=0.9),
                tmp_path / name,
                0,
            )
