# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Let ``torch.load(weights_only=True)`` read mmengine's checkpoints, and nothing more than that.

PyTorch refuses every type in a checkpoint that is not on its allow-list. A training checkpoint of mmengine also holds
``HistoryBuffer`` objects, whose pickles name numpy's array functions and ``builtins.getattr``. The types are added to
the list; of the functions, stand-ins are added, each of which does for these pickles what the real one would, and
refuses every other use. The safety of ``torch.load`` is never turned off.
"""
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

HISTORY_METHODS = ('min', 'max', 'current', 'mean')
# Plain numbers: no objects, no records, no text, no dates.
DTYPES = tuple(
    np.dtype(name) for name in ('bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64',
                                'float16', 'float32', 'float64', 'complex64', 'complex128'))


def allow_mmengine_checkpoints() -> None:
    """Add what mmengine's checkpoints need to the allow-list of ``torch.load``. Calling it again changes nothing."""
    allowed = [HistoryBuffer, np.ndarray, *(type(dtype) for dtype in DTYPES)]
    allowed += [(_history_method, 'builtins.getattr'), (_plain_dtype, 'numpy.dtype'), (_no_bytes, 'builtins.bytes')]
    for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):  # numpy 2 and numpy 1 wrote different names
        allowed += [(_empty_array, f'{module}._reconstruct'), (_number, f'{module}.scalar')]
    torch.serialization.add_safe_globals(allowed)


def _history_method(*args: Any) -> Callable:
    """Stand-in for ``getattr``: the statistics of ``HistoryBuffer`` and no other attribute of no other object."""
    if len(args) == 2 and args[0] is HistoryBuffer and type(args[1]) is str and args[1] in HISTORY_METHODS:
        return getattr(HistoryBuffer, args[1])
    raise UnpicklingError(
        f'the checkpoint asks for getattr{args!r}: only {", ".join(HISTORY_METHODS)} of HistoryBuffer '
        'are allowed')


def _plain_dtype(name: Any, align: Any = False, copy: Any = True) -> np.dtype:
    """Stand-in for ``numpy.dtype``: numbers only."""
    if type(name) is str and name in {dtype.str[1:] for dtype in DTYPES}:
        return np.dtype(name)
    raise UnpicklingError(f'the checkpoint asks for the numpy type {name!r}: only numbers are allowed')


def _no_bytes(*args: Any) -> bytes:
    """Stand-in for ``bytes``: the content of an empty array."""
    if not args:
        return b''
    raise UnpicklingError(f'the checkpoint asks for bytes{args!r}: only the empty ones are allowed')


def _empty_array(subtype: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Stand-in for numpy's ``_reconstruct``: the empty array that every array's pickle starts from."""
    if subtype is np.ndarray and tuple(shape) == (0, ) and dtype in (b'b', 'b'):
        return np.ndarray.__new__(np.ndarray, (0, ), 'b')
    raise UnpicklingError(
        f'the checkpoint asks for an array of {subtype!r}, {shape!r}, {dtype!r}: only plain arrays are '
        'allowed')


def _number(dtype: Any, data: bytes | None = None) -> np.generic:
    """Stand-in for numpy's ``scalar``: one number."""
    if isinstance(dtype, np.dtype) and dtype in DTYPES and type(data) is bytes and len(data) == dtype.itemsize:
        return np.frombuffer(data, dtype)[0]
    raise UnpicklingError(f'the checkpoint asks for a numpy scalar of {dtype!r}: only numbers are allowed')
