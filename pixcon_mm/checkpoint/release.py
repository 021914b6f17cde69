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


def from_release(state_dict: StateDict) -> StateDict:
    """Rename the networks in a checkpoint of the authors' release.

    Args:
        state_dict (dict[str, Tensor]): The release's PixCon ``state_dict``.

    Returns:
        dict[str, Tensor]: Under the names of :class:`PixCon`. The rest is left
        out: the queues, and ``backbone.*``, a second name of the encoder.

    Example:
        >>> list(from_release({'encoder_q.0.conv1.weight': None}))
        ['backbone.conv1.weight']
    """
    return {
        ours + name.removeprefix(theirs): tensor
        for name, tensor in state_dict.items()
        for theirs, ours in OUR_PREFIXES.items()
        if name.startswith(theirs)
    }
