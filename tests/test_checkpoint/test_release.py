"""Checkpoints of the release load into our model."""

import torch

from pixcon_mm.checkpoint.release import from_release
from tests.test_models import tiny

TO_RELEASE = [
    ('key_encoder.backbone.', 'encoder_k.0.'),
    ('key_encoder.neck.projector.', 'encoder_k.1.mlp.'),
    ('key_encoder.neck.dense_projector.', 'encoder_k.1.mlp2.'),
    ('backbone.', 'encoder_q.0.'),
    ('neck.projector.', 'encoder_q.1.mlp.'),
    ('neck.dense_projector.', 'encoder_q.1.mlp2.'),
    ('head.predictor.', 'predictor.mlp.'),
    ('head.dense_predictor.', 'predictor_dense.mlp.'),
]


def as_release(state_dict):
    """Return the same tensors under the release's names."""
    old = {}
    for name, tensor in state_dict.items():
        for ours, theirs in TO_RELEASE:
            if name.startswith(ours):
                old[theirs + name[len(ours) :]] = tensor
                if theirs == 'encoder_q.0.':
                    old[name] = tensor
                break
    for ours, theirs in (('image_queue', 'queue'), ('dense_queue', 'queue2')):
        old[theirs] = state_dict[f'{ours}.features'].T
        count = state_dict[f'{ours}._extra_state'] % old[theirs].shape[1]
        old[f'{theirs}_ptr'] = count.reshape(1)
    return old


def test_all_networks_of_the_release_load():
    model = tiny.build()
    release = as_release(model.state_dict())
    assert len([n for n in release if n.startswith('predictor')]) == 18
    found = from_release(release)
    networks = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if 'queue' not in name
    }
    assert found.keys() == networks.keys()
    for name, tensor in networks.items():
        assert torch.equal(found[name], tensor), name
