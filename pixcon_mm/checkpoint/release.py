"""Conversion of a checkpoint of the authors' release to PixCon's names."""

from pixcon_mm.checkpoint.torch_file import StateDict

# From the release's prefixes to ours.
OUR_PREFIXES = {
    'encoder_q.0.': 'backbone.',
    'encoder_q.1.mlp.': 'neck.projector.',
    'encoder_q.1.mlp2.': 'neck.dense_projector.',
    'encoder_k.0.': 'key_encoder.backbone.',
    'encoder_k.1.mlp.': 'key_encoder.neck.projector.',
    'encoder_k.1.mlp2.': 'key_encoder.neck.dense_projector.',
    'predictor.mlp.': 'head.predictor.',
    'predictor_dense.mlp.': 'head.dense_predictor.',
}
QUEUES = {'queue': 'image_queue', 'queue2': 'dense_queue'}


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
        prefix = next((p for p in OUR_PREFIXES if name.startswith(p)), None)
        if prefix:
            renamed[OUR_PREFIXES[prefix] + name.removeprefix(prefix)] = tensor
        elif name in QUEUES:
            pointer = state_dict[f'{name}_ptr'].reshape(()).clone()
            renamed[f'{QUEUES[name]}.features'] = tensor.T.contiguous()
            renamed[f'{QUEUES[name]}._extra_state'] = pointer
        elif not name.startswith('backbone.') and not name.endswith('_ptr'):
            raise KeyError(f"{name} is not a tensor of the release's PixCon")
    return renamed
