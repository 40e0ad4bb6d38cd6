# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .operating_points import Steps

# Float32 numbers, in order, are integers of 32 bits: the upper 16 are the cell, the lower 16 the place in the cell.
_NUM_CELLS = 2**16
_CELL_SIZE = 2**16
_CELL_OF_ONE = 0x3F80 + _NUM_CELLS // 2
# Cells within 1/16 of 1, where saturated sigmoids and softmaxes crowd, and of -1 keep every float apart.
_FINE_CELLS = tuple(range(_CELL_OF_ONE - 16, _CELL_OF_ONE + 8))
_FINE_CELLS = tuple(sorted(_NUM_CELLS - 1 - cell for cell in _FINE_CELLS)) + _FINE_CELLS
_FINE_BINS = len(_FINE_CELLS) * _CELL_SIZE
# Bins that all other cells share evenly: from 2**16 bins a cell, every float apart, to 2**6 if all cells are in use.
_SHARED_BINS = 2**22
_NUM_BINS = _FINE_BINS + _SHARED_BINS
# What is known of the scores in a bin: none yet, several different ones, or else 2 + the place of the only one.
_EMPTY, _MIXED, _ONLY = 0, 1, 2
# Bins that are looked at together.
_BLOCK = 2**20


class ScoreHistogram:
    """Counts of pixels in bins of neighbouring float32 scores, on the device of the scores.

    The order of float32 numbers is that of integers of 32 bits, so no range has to be known. The upper 16 bits (sign,
    exponent, 7 bits of the mantissa) name a cell. Cells in use share 2**22 bins evenly, by powers of two: up to 64
    cells, every float has a bin of its own; 4096 cells, a wide spread of scores, have 2**10 bins each, so that the
    scores of a bin differ by a 2**-17th part at most; the most is 2**-13, with all cells in use. Around 1 and -1 every
    float always has its own bin. Each bin also knows whether all its pixels have one and the same score, so that ties
    and rounded scores lose nothing.

    The bins depend only on which cells are in use, hence on the pixels and not on their order: histograms of parts
    merge to the very histogram of the whole. Memory: at most 20 bytes a bin, 150 MB, whatever the number of pixels.
    """

    def __init__(self) -> None:
        self.device: torch.device | None = None
        self._shift = 0  # lower bits of the place in a shared cell that its bins drop
        self._num_shared = 0  # shared cells in use
        self.num_normal, self.num_anomaly = 0, 0

    def _allocate(self, device: torch.device) -> None:
        self.device = device
        self._fine = torch.tensor(_FINE_CELLS, device=device)
        self._offset = torch.full((_NUM_CELLS, ), -1, dtype=torch.int32, device=device)  # first bin of a cell
        self._drop = torch.zeros(_NUM_CELLS, dtype=torch.int32, device=device)  # bits that its bins drop
        self._counts = _zeros((2, _NUM_BINS), np.int64, device)  # normal and anomaly pixels
        self._content = _zeros((_NUM_BINS, ), np.int32, device)

    def add(self, normal: Tensor, anomaly: Tensor) -> None:
        """Add pixels by their scores, float32 (P,) and (Q,), without NaN and negative zeros."""
        if self.device is None:
            self._allocate(normal.device)
        keys = [_key(scores.to(self.device)) for scores in (normal, anomaly)]
        if self.device.type == 'cpu':  # in order, neighbours in memory are counted one after the other: much faster
            keys = [torch.from_numpy(np.sort(key.numpy())) for key in keys]
        cells = [(key >> 16) + _NUM_CELLS // 2 for key in keys]
        self._use(sum(torch.bincount(cell, minlength=_NUM_CELLS) for cell in cells) > 0)
        for counts, key, cell in zip(self._counts, keys, cells):
            place = key & (_CELL_SIZE - 1)
            index = self._offset.index_select(0, cell) + (place >> self._drop.index_select(0, cell))
            counts.index_add_(0, index, counts.new_ones(()).expand(index.shape))
            self._note(index, place + _ONLY)
        self._add_numbers(normal.numel(), anomaly.numel())

    def _add_numbers(self, num_normal: int, num_anomaly: int) -> None:
        self.num_normal += num_normal
        self.num_anomaly += num_anomaly

    def _note(self, index: Tensor, content: Tensor) -> None:
        """Note which scores came into which bins."""
        known = self._content.index_select(0, index)
        news = torch.nonzero((known != content) & (known != _MIXED)).squeeze(1)
        if not news.numel():
            return
        index, content = index[news], content[news]
        fresh = known[news] == _EMPTY
        self._content[index[fresh]] = content[fresh]  # any one of several: the others are seen to differ below
        self._content[index[self._content[index] != content]] = _MIXED

    def _use(self, cells: Tensor) -> None:
        """Give bins to cells, bool (65536,), that have none yet; the others get coarser where that is necessary."""
        fresh = torch.nonzero(cells & (self._offset < 0)).squeeze(1)
        if not fresh.numel():
            return
        fine = torch.isin(fresh, self._fine)
        slots = torch.searchsorted(self._fine, fresh[fine])
        self._offset[fresh[fine]] = (slots * _CELL_SIZE).int()
        shared = fresh[~fine]
        shift, num_shared = self._shift, self._num_shared + shared.numel()
        while num_shared * (_CELL_SIZE >> shift) > _SHARED_BINS:
            shift += 1
        self._coarsen(shift)
        slots = torch.arange(self._num_shared, num_shared, device=self.device)
        self._offset[shared] = (_FINE_BINS + slots * self._width).int()
        self._drop[shared] = shift
        self._num_shared = num_shared

    @property
    def _width(self) -> int:
        """Bins of a shared cell."""
        return _CELL_SIZE >> self._shift

    def _shared(self, bins: Tensor) -> Tensor:
        """Bins (..., all) of the shared cells, (..., cells, bins)."""
        return bins[..., _FINE_BINS:_FINE_BINS + self._num_shared * self._width].unflatten(-1, (-1, self._width))

    def _coarsen(self, shift: int) -> None:
        """Join bins of shared cells until they drop ``shift`` bits."""
        if shift == self._shift or not self._num_shared:
            self._shift = shift
            return
        factor = 2**(shift - self._shift)
        for bins, join in ((self._counts[0], _join_counts), (self._counts[1], _join_counts), (self._content,
                                                                                              _join_contents)):
            used = self._shared(bins)
            joined = join(used, factor).flatten()
            used.zero_()
            bins[_FINE_BINS:_FINE_BINS + joined.numel()] = joined
        is_shared = self._offset >= _FINE_BINS
        self._offset[is_shared] = (self._offset[is_shared] - _FINE_BINS) // factor + _FINE_BINS
        self._drop[is_shared] = shift
        self._shift = shift

    def merge(self, other: 'ScoreHistogram') -> None:
        """Add the pixels of another, which stays as it is."""
        if other.device is None:
            return
        if self.device is None:
            self._allocate(other.device)
        self._use(other._offset.to(self.device) >= 0)
        for cells in other._blocks():
            for own, more, join, add in ((self._counts[0], other._counts[0], _join_counts,
                                          torch.add), (self._counts[1], other._counts[1], _join_counts, torch.add),
                                         (self._content, other._content, _join_contents, _unite)):
                theirs, rows = other._table(more, cells)
                ours, own_rows = self._table(own, cells.to(self.device))
                part = join(theirs[rows], theirs.size(1) // ours.size(1)).to(self.device)
                ours[own_rows] = add(ours[own_rows], part)
        self._add_numbers(other.num_normal, other.num_anomaly)

    def reduce(self, all_reduce: Callable[[Tensor, str], None]) -> None:
        """Add the pixels of all ranks, on every rank.

        Args:
            all_reduce: Reduces a tensor over ranks in place by 'sum', 'max' or 'min', as ``mmengine.dist.all_reduce``.
        """
        if self.device is None:
            self._allocate(torch.device('cpu'))
        numbers = torch.tensor([self.num_normal, self.num_anomaly], device=self.device)
        all_reduce(numbers, 'sum')
        self.num_normal, self.num_anomaly = numbers.tolist()
        in_use = (self._offset >= 0).int()
        all_reduce(in_use, 'max')
        self._use(in_use > 0)  # from here on all ranks have the same cells in use
        for cells in self._blocks():
            for counts in self._counts:
                table, rows = self._table(counts, cells)
                part = table[rows]
                all_reduce(part, 'sum')
                table[rows] = part
            table, rows = self._table(self._content, cells)
            largest = table[rows]
            smallest = largest.masked_fill(largest == _EMPTY, 2**30)
            all_reduce(largest, 'max')
            all_reduce(smallest, 'min')
            table[rows] = torch.where((largest == smallest) | (largest == _EMPTY), largest, _MIXED)

    def steps(self) -> Iterator[Steps]:
        """All bins that hold anomalies, descending."""
        above = 0
        for cells in self._blocks():
            (table, rows), (anomaly_table, _) = (self._table(counts, cells) for counts in self._counts)
            normals, anomalies = table[rows].flatten(), anomaly_table[rows].flatten()
            above += int(normals.sum())
            kept = torch.nonzero(anomalies).squeeze(1).flip(0)
            if not kept.numel():
                continue
            row, column = kept // table.size(1), kept % table.size(1)
            content = self._table(self._content, cells)[0][rows[row], column]
            place = torch.where(content == _MIXED, column << int(self._drop[cells[0]]), content - _ONLY)
            key = ((cells[row] - _NUM_CELLS // 2) << 16) + place
            yield Steps(
                _score(key.int()).cpu().numpy(),
                *(array.cpu().numpy() for array in (anomalies[kept], normals[kept],
                                                    above - torch.cumsum(normals, 0)[kept], content != _MIXED)))

    def _blocks(self) -> Iterator[Tensor]:
        """Cells in use in groups of descending scores, ascending in each; a group is of one kind, shared or fine."""
        cells = torch.nonzero(self._offset >= 0).squeeze(1).flip(0)
        if not cells.numel():
            return
        block = torch.cumsum(_CELL_SIZE >> self._drop[cells], 0) // _BLOCK
        fine = torch.isin(cells, self._fine).int()
        borders = torch.nonzero((block.diff() != 0) | (fine.diff() != 0)).squeeze(1) + 1
        for group in torch.tensor_split(cells, borders.cpu()):
            yield group.flip(0)

    def _table(self, bins: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Bins as a table (R, W) with a cell of W bins in each row, and the rows of some cells of one kind."""
        offset = self._offset[cells].long()
        if cells[0] in self._fine:
            return bins[:_FINE_BINS].view(-1, _CELL_SIZE), offset // _CELL_SIZE
        return self._shared(bins), (offset - _FINE_BINS) // self._width


def _zeros(shape: tuple, dtype: type, device: torch.device) -> Tensor:
    """Zeros; on a CPU, NumPy's take memory only when they are written to."""
    return torch.from_numpy(np.zeros(shape, dtype)).to(device)


def _key(scores: Tensor) -> Tensor:
    """Integers, int32, in the order of float32 scores."""
    bits = scores.view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _score(key: Tensor) -> Tensor:
    """Inverse of :func:`_key`."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _join_counts(bins: Tensor, factor: int) -> Tensor:
    """Sums of ``factor`` neighbours each."""
    return bins.unflatten(-1, (-1, factor)).sum(-1)


def _join_contents(bins: Tensor, factor: int) -> Tensor:
    """What is known of ``factor`` neighbours together."""
    bins = bins.unflatten(-1, (-1, factor))
    return torch.where((bins != _EMPTY).sum(-1) > 1, _MIXED, bins.sum(-1, dtype=bins.dtype))


def _unite(content: Tensor, other: Tensor) -> Tensor:
    """What is known of the pixels of two histograms in the same bins."""
    either = torch.where(content == _EMPTY, other, content)
    return torch.where((other == _EMPTY) | (other == either), either, _MIXED)
