# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import builtins
import collections
import copyreg
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

import mgcda  # noqa: F401
from mgcda.utils.checkpoints.safe_types import (
    HISTORY_METHODS,
    _ArrayType,
    _empty_array,
    _History,
    _history_method,
    _no_bytes,
    _number,
    _plain_dtype,
)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call

    def __call__(self) -> None:
        """Pickle wants what is called to be callable, also where it is itself the result of a call."""


def test_message_hub_state_survives(tmp_path: Path) -> None:
    hub = MessageHub('checkpoint_safety')
    for step in range(5):
        hub.update_scalar('train/loss', 1.5 * step, count=2)
    hub.update_info('best_score', np.float64(0.25))
    hub.update_info('iter', 4)
    torch.save(dict(message_hub=hub.state_dict(), state_dict=dict(weight=torch.arange(3.))), tmp_path / 'c.pth')

    loaded = torch.load(tmp_path / 'c.pth', weights_only=True)

    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    np.testing.assert_array_equal(buffer.data[0], [0, 1.5, 3, 4.5, 6])
    np.testing.assert_array_equal(buffer.data[1], [2] * 5)
    assert buffer.mean() == 1.5 and buffer.max() == 6 and buffer.statistics('current') == 6
    buffer.update(9.)  # its arrays are not read-only
    assert loaded['message_hub']['runtime_info']['best_score'] == 0.25


@pytest.mark.parametrize('function', [os.system, eval, exec, builtins.__import__, getattr, np.load, torch.load, print])
def test_calls_are_refused(tmp_path: Path, function: Callable) -> None:
    marker = tmp_path / 'marker'
    arguments = {
        os.system: (f'touch {marker}', ),
        eval: (f'open({str(marker)!r}, "w")', ),
        exec: (f'open({str(marker)!r}, "w")', ),
        getattr: (HistoryBuffer, '__init__'),
    }.get(function, ('os', ))
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), payload=Call(function, *arguments)), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'evil.pth', weights_only=True)
    assert not marker.exists()


def test_a_chain_of_getattr_to_eval_is_refused_and_would_have_worked(tmp_path: Path) -> None:
    """getattr(HistoryBuffer.min, '__globals__')['__builtins__']['eval'] is the way out that the real getattr opens."""
    marker = tmp_path / 'marker'
    code = f'__import__("pathlib").Path({str(marker)!r}).touch()'
    getter = Call(getattr, Call(getattr, HistoryBuffer, 'min'), '__globals__')
    lookup = Call(Call(getattr, getter, 'get'), '__builtins__')
    chain = Call(Call(Call(getattr, lookup, 'get'), 'eval'), code)
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), payload=chain), tmp_path / 'evil.pth')

    with pytest.raises(pickle.UnpicklingError, match='getattr'):
        torch.load(tmp_path / 'evil.pth', weights_only=True)
    assert not marker.exists()
    pickle.loads(pickle.dumps(chain, protocol=2))
    assert marker.exists()


@pytest.mark.parametrize('args', [(_History, '__init__'), (_History, 'update'), (_History, '__globals__'),
                                  (HistoryBuffer(), 'min'), (builtins, 'eval'), (os, 'system'), (_History, ),
                                  (_History, 'min', None), (_History, ['min']), (dict, 'get')])
def test_getattr_is_guarded(args: tuple) -> None:
    with pytest.raises(pickle.UnpicklingError, match='getattr'):
        _history_method(*args)


def test_the_four_statistics_are_allowed() -> None:
    assert [_history_method(_History, name) for name in HISTORY_METHODS
            ] == [HistoryBuffer.min, HistoryBuffer.max, HistoryBuffer.current, HistoryBuffer.mean]


@pytest.mark.parametrize('name', ['O', 'V8', 'S4', [('a', 'O')], 'M8[s]', 'f8,O', object, None])
def test_numpy_types_are_numbers(name: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match='numpy type'):
        _plain_dtype(name)


def test_numpy_arrays_start_empty_and_scalars_fit() -> None:
    assert _empty_array(_ArrayType, (0, ), b'b').shape == (0, )
    for args in ((np.memmap, (0, ), b'b'), (_ArrayType, (1 << 40, ), b'b'), (_ArrayType, (0, ), 'O')):
        with pytest.raises(pickle.UnpicklingError, match='array'):
            _empty_array(*args)
    assert _number(np.dtype('f8'), np.float64(2.5).tobytes()) == 2.5
    assert _no_bytes() == b''
    with pytest.raises(pickle.UnpicklingError, match='bytes'):
        _no_bytes(1 << 40)
    for args in ((np.dtype('f8'), b'1234'), (np.dtype('O'), b'12345678'), ('f8', b'12345678')):
        with pytest.raises(pickle.UnpicklingError, match='scalar'):
            _number(*args)


class New:
    """Pickles as a new object of a class, made without its ``__init__`` and filled with ``state``."""

    def __init__(self, kind: type, *args: Any, state: Any = None) -> None:
        self.kind, self.args, self.state = kind, args, state

    @property
    def __class__(self) -> type:
        """Pickle wants it to be of that class."""
        return self.kind

    def __reduce_ex__(self, protocol: int) -> tuple:
        return copyreg.__newobj__, (self.kind, *self.args), self.state


@pytest.mark.parametrize('kind', [Call, New])
@pytest.mark.parametrize('args', [((1, ), 'O', b'AAAAAAAA'), ((1, ), 'O'), ((1, ), 'M8[s]'), ((1, ), 'f8,i4'),
                                  ((1 << 36, ), 'f8'), ()])
def test_arrays_are_not_made_as_the_file_says(tmp_path: Path, kind: type, args: tuple) -> None:
    """The first is an array of pointers from the file, which crash whatever touches them: none is made."""
    torch.save(dict(x=kind(np.ndarray, *args)), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError, match=r'asks for numpy\.ndarray'):
        torch.load(tmp_path / 'evil.pth', weights_only=True)
    torch.save(dict(x=Call(type(np.dtype('f8')))), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError, match='numpy.dtype'):
        torch.load(tmp_path / 'evil.pth', weights_only=True)


def test_a_history_reads_no_memory_that_the_file_names(tmp_path: Path) -> None:
    """NumPy takes what has an ``__array_interface__`` for an array that lies where that says."""
    array = np.arange(2.)
    lie = New(collections.OrderedDict, state=dict(__array_interface__=array.__array_interface__))
    good = dict(HistoryBuffer([1.], [1]).__getstate__())
    for payload in (Call(HistoryBuffer, lie, lie), New(HistoryBuffer, state=dict(good, _log_history=lie)),
                    New(HistoryBuffer, state=dict(good, statistics_methods=dict(mean=collections.Counter))),
                    New(HistoryBuffer, state=dict(good, __array_interface__=1))):
        torch.save(dict(x=payload), tmp_path / 'evil.pth')
        with pytest.raises(pickle.UnpicklingError, match='asks for a (call of )?HistoryBuffer'):
            torch.load(tmp_path / 'evil.pth', weights_only=True)
    assert HistoryBuffer([1., 3.], [1, 1]).statistics('mean') == 2


def test_object_arrays_in_checkpoints_are_refused(tmp_path: Path) -> None:
    torch.save(dict(values=np.array([{'a': 1}, None], dtype=object)), tmp_path / 'objects.pth')
    with pytest.raises(pickle.UnpicklingError, match='numpy type'):
        torch.load(tmp_path / 'objects.pth', weights_only=True)


@pytest.mark.parametrize('name', [
    'bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'float16', 'float32', 'float64',
    'complex64', 'complex128'
])
def test_numpy_numbers_and_arrays_load(tmp_path: Path, name: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(name)
    meta = dict(palette=array, transposed=array.T, empty=array[:0], value=array[1, 2])
    torch.save(dict(meta=meta), tmp_path / 'c.pth')
    for key, value in torch.load(tmp_path / 'c.pth', weights_only=True)['meta'].items():
        assert value.dtype == array.dtype and type(value) is type(meta[key]), key
        np.testing.assert_array_equal(value, meta[key])


def test_numpy_text_dates_and_records_are_refused(tmp_path: Path) -> None:
    for array in (np.array(['a']), np.array(['2024-01-01'], 'M8[D]'), np.zeros(2, [('a', 'f8')]), np.zeros(2, 'V4')):
        torch.save(dict(values=array), tmp_path / 'c.pth')
        with pytest.raises(pickle.UnpicklingError, match='numpy type'):
            torch.load(tmp_path / 'c.pth', weights_only=True)
