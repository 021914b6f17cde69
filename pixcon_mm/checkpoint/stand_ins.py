"""Stand-ins for the classes in a pickle, so that none of its code runs."""

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Objects that training scripts save beside their tensors: the log's history,
# and settings. They are loaded as empty objects.
IGNORED = (
    'mmengine.logging.history_buffer.HistoryBuffer',
    'argparse.Namespace',
    'builtins.dict',
    'builtins.getattr',
    'builtins.int',
    'builtins.list',
    'omegaconf.base.ContainerMetadata',
    'omegaconf.base.Metadata',
    'omegaconf.dictconfig.DictConfig',
    'omegaconf.listconfig.ListConfig',
    'omegaconf.nodes.AnyNode',
    'pathlib.PosixPath',
    'typing.Any',
)
# NumPy's codes of number types: byte order, kind, and size in bytes.
NUMBERS = re.compile(r'[<>|=]?(b1|[iu][1248]|f[248])')


class Ignored:
    """Empty object in place of one that a file holds beside tensors."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class SavedDtype(Ignored):
    """Type of an array's values: NumPy's name for it, such as ``<f4``."""

    def __init__(self, code: str, *args: Any):
        self.code = code

    def __setstate__(self, state: Any) -> None:
        # The state is a version, then the byte order, then more.
        self.code = state[1] + self.code


class SavedArray(Ignored):
    """NumPy array, kept as the parts that a pickle holds.

    NumPy's own unpickling trusts the file: a forged dtype makes it read
    memory outside of the array.
    """

    fields: tuple[str, ...] = ()  # names of the arguments
    shape: tuple = ()
    dtype: Any = ''
    order: Any = 'C'
    data: Any = b''

    def __init__(self, *args: Any):
        vars(self).update(zip(self.fields, args, strict=False))

    def __setstate__(self, state: Any) -> None:
        # The state is a version, then these; the order is whether it is 'F'.
        names = ('shape', 'dtype', 'order', 'data')
        vars(self).update(zip(names, state[1:], strict=True))

    def tensor(self) -> Tensor | None:
        """Return the values, or None if they are not numbers.

        Raises:
            ValueError: If shape and number of bytes disagree.
        """
        code = str(getattr(self.dtype, 'code', self.dtype))
        if not NUMBERS.fullmatch(code):
            return None
        data = self.data
        if isinstance(data, str):  # bytes that Python 2 saved
            data = data.encode('latin1')
        dtype = np.dtype(code)
        flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder('='))
        order = 'F' if self.order in ('F', True) else 'C'
        array = flat.reshape(self.shape, order=order)  # type: ignore[call-overload]
        return torch.from_numpy(array.copy(order='C'))


class _PlainDict(Ignored):
    """Plain dict, as torch adds items to no stand-in."""

    def __new__(cls, *args: Any) -> Any:
        return {}


class _Bytes(Ignored):
    """Bytes, which pickles of protocol 2 hold as text."""

    def __new__(cls, data: Any = b'', encoding: str = 'latin1') -> Any:
        text = isinstance(data, str)
        return data.encode(encoding) if text else bytes(memoryview(data))


# What makes arrays, with the names of its arguments. An array that
# _reconstruct makes is filled by a state.
ARRAYS: dict[str, tuple[str, ...]] = {
    'numpy.ndarray': ('shape', 'dtype', 'data')
}
for _core in ('numpy.core', 'numpy._core'):
    ARRAYS[f'{_core}.multiarray._reconstruct'] = ()
    ARRAYS[f'{_core}.multiarray.scalar'] = ('dtype', 'data')
    ARRAYS[f'{_core}.numeric._frombuffer'] = (
        'data',
        'dtype',
        'shape',
        'order',
    )


def make_stand_ins() -> dict[str, type]:
    """Make a class for each name that a file may refer to.

    Every file gets new classes, so that no file can change them for others.
    """
    bases: dict[str, type] = {
        **dict.fromkeys(IGNORED, Ignored),
        **dict.fromkeys(ARRAYS, SavedArray),
        'numpy.dtype': SavedDtype,
        'builtins.bytes': _Bytes,
        'collections.defaultdict': _PlainDict,
    }
    stand_ins = {}
    for full_name, base in bases.items():
        module, _, name = full_name.rpartition('.')
        # torch recognises a class by its module and name.
        members = {'__module__': module, 'fields': ARRAYS.get(full_name, ())}
        stand_ins[full_name] = type(name, (base,), members)
    return stand_ins


def load_pickle(path: Path) -> Any:
    """Load a pickle of NumPy's arrays, as Detectron2's model zoo has them.

    Arrays come as :class:`SavedArray`.

    Raises:
        pickle.UnpicklingError: If it refers to anything but arrays.
        Exception: Almost any, if it is damaged.
    """
    with path.open('rb') as file:
        # Files of Python 2 hold bytes as text, which this decodes.
        return _Unpickler(file, encoding='latin1').load()


class _Unpickler(pickle.Unpickler):
    """Unpickler that imports nothing."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.known = {
            **make_stand_ins(),
            '_codecs.encode': type('encode', (_Bytes,), {}),
            'builtins.bytearray': type('bytearray', (_Bytes,), {}),
            'collections.OrderedDict': OrderedDict,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of that name."""
        # Python 2's name for it.
        module = 'builtins' if module == '__builtin__' else module
        full_name = f'{module}.{name}'
        if full_name not in self.known:
            raise pickle.UnpicklingError(f'GLOBAL {full_name}')
        return self.known[full_name]
