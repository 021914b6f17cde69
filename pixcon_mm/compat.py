"""Import of MMPretrain beside a newer package that breaks it."""

from importlib import metadata


def leave_out_multimodal_models() -> None:
    """Keep MMPretrain from importing its multimodal models if that would fail.

    MMPretrain imports them wherever ``transformers`` is installed, even for
    tasks that need none of them. ``transformers`` 5 lacks names that they use,
    so that the import of ``mmpretrain.models`` fails. Must be called before
    that import.
    """
    try:
        version = metadata.version('transformers')
    except metadata.PackageNotFoundError:
        return
    major = version.partition('.')[0]
    if major.isdigit() and int(major) >= 5:  # pre-releases of 5.0.0, too
        from mmpretrain.utils import dependency

        dependency.WITH_MULTIMODAL = False


leave_out_multimodal_models()
