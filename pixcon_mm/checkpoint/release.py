"""Names of the authors' release, and ours."""

from pixcon_mm.checkpoint.reading import StateDict

# Release (reference file, section 1.2) -> this project.
_RELEASE_PREFIXES = {
    'encoder_q.0.': 'backbone.',
    'encoder_q.1.mlp.': 'neck.projector.',
    'encoder_q.1.mlp2.': 'neck.dense_projector.',
    'encoder_k.0.': 'key_encoder.backbone.',
    'encoder_k.1.mlp.': 'key_encoder.neck.projector.',
    'encoder_k.1.mlp2.': 'key_encoder.neck.dense_projector.',
    'predictor.mlp.': 'head.image_predictor.',
    'predictor_dense.mlp.': 'head.dense_predictor.',
}
_RELEASE_QUEUES = {'queue': 'image_queue', 'queue2': 'dense_queue'}


def from_release(state_dict: StateDict) -> StateDict:
    """Rename the tensors of a checkpoint of the authors' release.

    Args:
        state_dict (dict[str, Tensor]): The release's PixCon ``state_dict``.

    Returns:
        dict[str, Tensor]: State dict of :class:`PixCon`. The alias
        ``backbone.*`` is dropped and the queues become rows (K, C).

    Raises:
        KeyError: If a tensor belongs to no part of the release's model.

    Example:
        >>> list(from_release({'encoder_q.0.conv1.weight': None}))
        ['backbone.conv1.weight']
    """
    renamed = {}
    for name, tensor in state_dict.items():
        if name in _RELEASE_QUEUES:
            queue = _RELEASE_QUEUES[name]
            renamed[f'{queue}.features'] = tensor.T.contiguous()
            pointer = state_dict[f'{name}_ptr'].reshape(()).clone()
            renamed[f'{queue}._extra_state'] = pointer
            continue
        if name.startswith('backbone.') or name.endswith('_ptr'):
            continue
        for old, new in _RELEASE_PREFIXES.items():
            if name.startswith(old):
                renamed[new + name.removeprefix(old)] = tensor
                break
        else:
            raise KeyError(f"{name} is no tensor of the release's PixCon")
    return renamed
