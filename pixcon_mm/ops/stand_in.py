"""A module ``mmcv._ext`` for an mmcv that was installed without one."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from pixcon_mm.ops.compiled_only import compiled_only

NAME = 'mmcv._ext'
NOT_COMPILED = 'not compiled (nms and roi_align are those of torchvision)'


class StandInFinder(MetaPathFinder, Loader):
    """Offers ``mmcv._ext`` when no finder before it has one."""

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
            get_compiler_version=describe,
            get_compiling_cuda_version=describe,
            __getattr__=missing_operator,
        )


def install() -> None:
    """Put the finder last, where a compiled ``mmcv._ext`` comes first.

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


def describe() -> str:
    """What mmcv reports in place of a compiler's and CUDA's version."""
    return NOT_COMPILED


def missing_operator(name: str) -> Callable:
    """Give any operator that mmcv asks for, so that its import goes on.

    Args:
        name (str): Name of the operator.

    Returns:
        Callable: Raises, when called, an error that names the operator.

    Example:
        >>> callable(missing_operator('deform_conv_forward'))
        True
    """
    # mmcv's operators have no such names; Python's protocols do.
    if name.startswith('_'):
        raise AttributeError(f'module {NAME!r} has no attribute {name!r}')
    return partial(_refuse, name)


def _refuse(name: str, /, *args, **kwargs) -> None:
    raise compiled_only(f"mmcv's operator {name!r}")
