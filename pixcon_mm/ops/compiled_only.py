"""What to say of an operator that only a compiled mmcv has."""

from pixcon_mm.errors import UserError

# mmcv compiles its operators only where the build can see PyTorch, and pip
# would otherwise take up again what it has built without them.
BUILD = (
    'pip install -c requirements/constraints.txt --no-cache-dir '
    '--no-build-isolation --no-deps --force-reinstall onedl-mmcv'
)


def compiled_only(what: str) -> UserError:
    """Error for what torchvision does not stand in for.

    Example:
        >>> print(str(compiled_only('RoIPool'))[:43])
        RoIPool needs mmcv's compiled operators, an
    """
    return UserError(
        f"{what} needs mmcv's compiled operators, and this mmcv has none "
        '(torchvision stands in for nms and the average roi_align alone): '
        'choose a model that does without, or compile them, on a machine '
        "with a GPU, a C++ compiler and the CUDA toolkit of PyTorch's "
        f'version, by running: {BUILD}'
    )
