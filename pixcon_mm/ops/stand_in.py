"""A module ``mmcv._ext`` for an mmcv that was installed without one."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from pixcon_mm.errors import UserError

NAME = 'mmcv._ext'
NOT_COMPILED = 'not compiled (nms and roi_align are those of torchvision)'
# mmcv compiles its operators only where the build can see PyTorch, and pip
# would otherwise install what it has built without them.
BUILD = (
    'pip install -c requirements/constraints.txt --no-cache-dir '
    '--no-build-isolation --no-deps --force-reinstall onedl-mmcv'
)


class StandInFinder(MetaPathFinder, Loader):
    """Finder of ``mmcv._ext``, for when no finder before it has one."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Answer for ``mmcv._ext`` alone."""
        if fullname != NAME:
            return None
        return ModuleSpec(fullname, self, origin='pixcon_mm.ops')

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module; torchvision is imported only here."""
        from pixcon_mm.ops.nms import nms
        from pixcon_mm.ops.roi_align import (
            roi_align_backward,
            roi_align_forward,
        )

        vars(module).update(
            nms=nms,
            roi_align_forward=roi_align_forward,
            roi_align_backward=roi_align_backward,
            get_compiler_version=lambda: NOT_COMPILED,
            get_compiling_cuda_version=lambda: NOT_COMPILED,
            __getattr__=missing_operator,
        )


def install() -> None:
    """Put the finder last, so that a compiled ``mmcv._ext`` comes first.

    Example:
        >>> install()
        >>> install()
        >>> [type(finder).__name__ for finder in sys.meta_path].count(
        ...     'StandInFinder'
        ... )
        1
    """
    # By name: after a reload of this module the class is another one.
    names = [type(finder).__qualname__ for finder in sys.meta_path]
    if StandInFinder.__qualname__ not in names:
        sys.meta_path.append(StandInFinder())


def missing_operator(name: str) -> Callable:
    """Return an operator that raises when called, so that mmcv imports.

    Example:
        >>> callable(missing_operator('deform_conv_forward'))
        True
    """
    # mmcv's operators have no such names; Python's protocols do.
    if name.startswith('_'):
        raise AttributeError(f'module {NAME!r} has no attribute {name!r}')
    return partial(_refuse, name)


def compiled_only(what: str) -> UserError:
    """Return the error for what torchvision does not have.

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


def _refuse(name: str, /, *args, **kwargs) -> None:
    raise compiled_only(f"mmcv's operator {name!r}")
