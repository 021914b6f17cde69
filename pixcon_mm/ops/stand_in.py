"""Module ``mmcv._ext`` for an mmcv that was installed without it."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from pixcon_mm.errors import UserError

NAME = 'mmcv._ext'
NOT_COMPILED = 'not compiled (nms and roi_align are those of torchvision)'
# mmcv compiles its operators only if the build can import PyTorch, and without
# --no-cache-dir pip may install an earlier build that has none.
BUILD = (
    'pip install -c requirements/constraints.txt --no-cache-dir '
    '--no-build-isolation --no-deps --force-reinstall onedl-mmcv'
)


class StandInFinder(MetaPathFinder, Loader):
    """Finder of ``mmcv._ext``, used if no other finder has this module."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return a spec for ``mmcv._ext``, and None for other modules."""
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


def missing_operator(name: str) -> Callable:
    """Return an operator that raises when called, so that mmcv can import it.

    Example:
        >>> callable(missing_operator('deform_conv_forward'))
        True
    """
    # No operator of mmcv has such a name, but Python looks for __path__ etc.
    if name.startswith('_'):
        raise AttributeError(f'module {NAME!r} has no attribute {name!r}')
    return partial(_refuse, name)


def compiled_only(what: str) -> UserError:
    """Return the error for an operator that torchvision does not have.

    Example:
        >>> print(str(compiled_only('RoIPool'))[:43])
        RoIPool needs mmcv's compiled operators, an
    """
    return UserError(
        f"{what} needs mmcv's compiled operators, and this mmcv has none "
        '(torchvision replaces only nms and the average roi_align): choose a '
        'model that does not need them, or compile them, on a machine with a '
        "GPU, a C++ compiler and the CUDA toolkit of PyTorch's version, by "
        f'running: {BUILD}'
    )


def _refuse(name: str, /, *args, **kwargs) -> None:
    raise compiled_only(f"mmcv's operator {name!r}")
