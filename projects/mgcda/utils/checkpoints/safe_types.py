# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Let ``torch.load(weights_only=True)`` read mmengine's checkpoints, and nothing more than that.

PyTorch refuses every type in a checkpoint that is not on its allow-list. A training checkpoint of mmengine also holds
``HistoryBuffer`` objects, whose pickles name numpy's array functions and ``builtins.getattr``. Whatever a pickle can
name it can also call, with any arguments, so every name leads to a stand-in, which does for these pickles what the
real one would, and refuses every other use. The safety of ``torch.load`` is never turned off.
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
    allowed: list = [(_History, f'{HistoryBuffer.__module__}.HistoryBuffer'), (_ArrayType, 'numpy.ndarray')]
    allowed += [(_history_method, 'builtins.getattr'), (_plain_dtype, 'numpy.dtype'), (_no_bytes, 'builtins.bytes')]
    # torch fills objects of listed types only. Names in pickles are MODULE.NAME: none without a dot can be spelt there.
    filled = (np.ndarray, *(type(dtype) for dtype in DTYPES))
    allowed += [(kind, f'filled {index}') for index, kind in enumerate(filled)]
    for module in ('numpy._core.multiarray', 'numpy.core.multiarray'):  # numpy 2 and numpy 1 wrote different names
        allowed += [(_empty_array, f'{module}._reconstruct'), (_number, f'{module}.scalar')]
    torch.serialization.add_safe_globals(allowed)


class _History(HistoryBuffer):
    """Stand-in for ``HistoryBuffer``, which it becomes once it is filled with plain values."""

    def __init__(self, *args: Any) -> None:
        """Take nothing: ``HistoryBuffer`` would read memory for an object that says where its array lies."""
        raise UnpicklingError('the checkpoint asks for a call of HistoryBuffer')

    def __setstate__(self, state: Any) -> None:
        methods = state.get('statistics_methods') if type(state) is dict else None
        plain = type(methods) is dict and all(value is _METHODS.get(name) for name, value in methods.items())
        if not plain or {key: type(state[key]) for key in state} != _STATE:
            raise UnpicklingError('the checkpoint asks for a HistoryBuffer that does not hold plain arrays')
        super().__setstate__(dict(state))
        self.__class__ = HistoryBuffer  # type: ignore[assignment]


_METHODS = {name: getattr(HistoryBuffer, name) for name in HISTORY_METHODS}
_STATE = dict(max_length=int, _log_history=np.ndarray, _count_history=np.ndarray, statistics_methods=dict)


def _history_method(*args: Any) -> Callable:
    """Stand-in for ``getattr``: the statistics of ``HistoryBuffer`` and no other attribute of no other object."""
    if len(args) == 2 and args[0] is _History and type(args[1]) is str and args[1] in HISTORY_METHODS:
        return _METHODS[args[1]]
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


class _ArrayType:
    """Stand-in for ``numpy.ndarray``: a name. A call could make pointers of the file's bytes."""

    def __new__(cls, *args: Any) -> '_ArrayType':
        raise UnpicklingError(f'the checkpoint asks for numpy.ndarray{args!r}: only arrays of numbers are allowed')


def _empty_array(subtype: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Stand-in for numpy's ``_reconstruct``: the empty array that every array's pickle starts from."""
    if subtype is _ArrayType and shape == (0, ) and dtype in (b'b', 'b'):
        return np.ndarray.__new__(np.ndarray, (0, ), 'b')
    raise UnpicklingError(
        f'the checkpoint asks for an array of {subtype!r}, {shape!r}, {dtype!r}: only plain arrays are '
        'allowed')


def _number(dtype: Any, data: bytes | None = None) -> np.generic:
    """Stand-in for numpy's ``scalar``: one number."""
    if isinstance(dtype, np.dtype) and dtype in DTYPES and type(data) is bytes and len(data) == dtype.itemsize:
        return np.frombuffer(data, dtype)[0]
    raise UnpicklingError(f'the checkpoint asks for a numpy scalar of {dtype!r}: only numbers are allowed')
