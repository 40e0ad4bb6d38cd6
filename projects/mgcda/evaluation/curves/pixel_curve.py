# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mgcda.labels import ANOMALY, IGNORE, NORMAL

from .exact_scores import ExactScores
from .frame_quantiles import FrameQuantiles
from .operating_points import Steps, sample_curve, summarise
from .score_histogram import ScoreHistogram

ArrayLike = np.ndarray | Tensor

MODES = {'streaming': ScoreHistogram, 'exact': ExactScores}
#: Protocol -> its rule for the false positive rate at a recall, a key of ``operating_points.FPR_RULES``.
PROTOCOLS = {
    'fishyscapes': 'reaching',
    'smiyc': 'reaching',
    'rba': 'exceeding',
    'densehybrid': 'exceeding',
    'pebal': 'closest',
}
#: Bounds wider than this, in points, are warned about.
WIDE_BOUNDS = 0.05


class PixelCurve:
    r"""AP, FPR at given recalls, AUROC and best F1 of all valid pixels of a data set.

    Pixels with a score of at least a threshold t are taken for anomalies; thresholds are the distinct scores, in
    descending order, so that pixels of equal score count together:

    .. math::

        AP = \sum_n (R_n - R_{n-1}) P_n, \qquad
        FPR95 = FPR(t^*), \; t^* = \max \{t : TPR(t) \ge 0.95\}, \qquad
        AUROC = P(s_a > s_n) + \tfrac{1}{2} P(s_a = s_n), \qquad
        F1 = \max_t \frac{2 TP(t)}{2 TP(t) + FP(t) + FN(t)}

    Modes, both of which give the same to the last bit for any order of the pixels and any way of splitting and merging:

    * ``'streaming'`` counts pixels in bins of neighbouring scores (:class:`ScoreHistogram`), on the device where the
      first scores are. Memory: at most 150 MB, whatever the number of pixels. Error: :meth:`compute` returns certified
      bounds beside each value, from the best and the worst order inside the bins; they meet where the scores of a bin
      are all equal (few different scores, such as those of 8- or 16-bit files). Bounds wider than 0.05 points cause a
      warning.
    * ``'exact'`` keeps the float32 score of each valid pixel on the CPU and sorts once. Memory: 4 bytes a pixel. Error:
      that of float64 arithmetic.

    Protocols, named after the code that evaluates so:

    * ``'fishyscapes'`` as above;
    * ``'rba'`` and ``'densehybrid'``: FPR at the first threshold with TPR > 0.95, strictly;
    * ``'pebal'`` (also RPL and cDNP): FPR at the threshold with the smallest \|TPR - 0.95\|; of two such recalls the
      higher one, and of thresholds of equal recall, below 1, the lowest;
    * ``'smiyc'``: pixels are pooled from quantile bins of each frame in float16 (:class:`FrameQuantiles`), whatever the
      mode; every :meth:`update` is one frame.

    Args:
        mode: How pixels are kept.
        protocol: Whose rules count.
        recalls: Levels of the true positive rate at which the false positive rate is read, each in (0, 1).

    Raises:
        ValueError: If an argument is none of these.

    Example:
        >>> curve = PixelCurve('exact')
        >>> curve.update(np.array([0.9, 0.8, 0.1, 0.5]), np.array([1, 0, 0, 255]))
        >>> result = curve.compute()
        >>> result['AP'], result['FPR95'], result['AUROC'], result['F1']
        (100.0, 0.0, 100.0, 100.0)
    """

    def __init__(self,
                 mode: str = 'streaming',
                 protocol: str = 'fishyscapes',
                 recalls: Sequence[float] = (0.95, )) -> None:
        if mode not in MODES:
            raise ValueError(f'mode must be one of {tuple(MODES)}, got {mode!r}')
        if protocol not in PROTOCOLS:
            raise ValueError(f'protocol must be one of {tuple(PROTOCOLS)}, got {protocol!r}')
        self.mode = mode
        self.protocol = protocol
        try:
            self.recalls = tuple(float(recall) for recall in recalls)
        except (TypeError, ValueError):
            self.recalls = ()
        if not self.recalls or not all(0 < recall < 1 for recall in self.recalls):
            raise ValueError(f'recalls must be numbers between 0 and 1, such as (0.95, 0.8), got {recalls!r}')
        self._pixels = FrameQuantiles() if protocol == 'smiyc' else MODES[mode]()

    @property
    def num_normal(self) -> int:
        """Number of normal pixels so far."""
        return self._pixels.num_normal

    @property
    def num_anomaly(self) -> int:
        """Number of anomaly pixels so far."""
        return self._pixels.num_anomaly

    def update(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Add pixels, by protocol 'smiyc' those of one frame.

        Args:
            scores: Floats or integers of any shape, larger = more anomalous; compared as float32, infinities allowed.
            labels: Integers or bools of the same shape: 0 normal, 1 anomaly, 255 ignored.

        Raises:
            ValueError: If the shapes differ, a label is none of 0, 1, 255, or the score of a valid pixel is NaN.
            TypeError: If the labels are not integers.
        """
        scores, labels = _to_tensor(scores), _to_tensor(labels)
        if scores.shape != labels.shape:
            raise ValueError('scores and labels must have the same shape, '
                             f'got {tuple(scores.shape)} and {tuple(labels.shape)}')
        if labels.is_floating_point() or labels.is_complex():
            raise TypeError(f'labels must be integers, got {labels.dtype}')
        if scores.is_complex():
            raise TypeError(f'scores must be real numbers, got {scores.dtype}')
        scores, labels = scores.reshape(-1), labels.reshape(-1).to(scores.device)
        masks = [labels == value for value in (NORMAL, ANOMALY)]
        known = masks[0] | masks[1] | (labels == IGNORE)
        if not known.all():
            values = labels[~known].unique()[:5].tolist()
            raise ValueError(f'labels must be {NORMAL}, {ANOMALY} or {IGNORE}, got {values}')
        # Adding zero turns -0 into 0: equal values must not be told apart.
        scores = scores.float()
        parts = [_select(scores, mask) + 0 for mask in masks]
        if any(part.isnan().any() for part in parts):
            num_nan = sum(int(part.isnan().sum()) for part in parts)
            raise ValueError(f'scores must not be NaN, got {num_nan} NaN at valid pixels')
        self._pixels.add(*parts)

    def merge(self, other: 'PixelCurve') -> None:
        """Add all pixels of another curve of the same mode and protocol, which stays as it is."""
        self._check_alike(other)
        self._pixels.merge(other._pixels)

    def reduce(self, all_reduce: Callable[[Tensor, str], None]) -> None:
        """Add the pixels of all ranks, on every rank; for the mode 'streaming', whose curves have a fixed size.

        Args:
            all_reduce: Reduces a tensor over ranks in place by 'sum', 'max' or 'min', as ``mmengine.dist.all_reduce``.
        """
        self._pixels.reduce(all_reduce)

    @property
    def reducible(self) -> bool:
        """Whether there is a :meth:`reduce`; other curves are gathered and merged."""
        return isinstance(self._pixels, ScoreHistogram)

    def compute(self) -> dict[str, float]:
        """Values in percent, unrounded, but for ``F1_threshold``.

        Returns:
            dict: ``AP``, ``FPR95`` (and alike for each recall), ``AUROC``, ``F1``, and ``F1_threshold``: the score that
            the pixels predicted by the best F1 exceed (by 'smiyc', where that code's threshold is a quantile, those
            that equal it also counted; no number exists, and -inf stands, where those of score -inf are predicted). In
            streaming mode also ``AP_lower``, ``AP_upper`` and so on.

        Raises:
            ValueError: If there is no normal or no anomaly pixel: the curve is undefined then.
        """
        results, threshold = summarise(self._steps(), self.num_normal, self.num_anomaly, self.recalls,
                                       PROTOCOLS[self.protocol])
        values = {key: interval.value for key, interval in results.items()}
        if self.protocol != 'smiyc':
            with np.errstate(over='ignore'):
                threshold = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
        values['F1_threshold'] = threshold
        if isinstance(self._pixels, ScoreHistogram):
            for key, interval in results.items():
                values.update({f'{key}_lower': interval.lower, f'{key}_upper': interval.upper})
            wide = [
                f'{key} in [{interval.lower:.3f}, {interval.upper:.3f}]' for key, interval in results.items()
                if interval.upper - interval.lower > WIDE_BOUNDS
            ]
            if wide:
                warnings.warn(
                    f'the scores crowd more than a histogram can tell apart: {", ".join(wide)}; '
                    "mode='exact' gives exact values",
                    stacklevel=2)
        return values

    def curve(self, max_points: int = 1000) -> dict[str, np.ndarray]:
        """Points of the precision-recall and ROC curves, about ``max_points`` evenly over recall and over FPR.

        Returns:
            dict: ``threshold``, descending, ``recall`` (= TPR), ``precision``, ``fpr``, in [0, 1], of the pixels with a
            score of at least the threshold; float64 (P,). The ends (recall 0; FPR 1) are left out.

        Raises:
            ValueError: As :meth:`compute`.
        """
        return sample_curve(self._steps(), self.num_normal, self.num_anomaly, max_points)

    def _steps(self) -> Iterator[Steps]:
        num_normal, num_anomaly = self.num_normal, self.num_anomaly
        if not num_normal or not num_anomaly:
            raise ValueError('AP, FPR, AUROC and F1 need normal and anomaly pixels, '
                             f'got {num_normal} normal and {num_anomaly} anomaly pixels')
        return self._pixels.steps()

    def _check_alike(self, other: 'PixelCurve') -> None:
        if not isinstance(other, PixelCurve):
            raise TypeError(f'other must be a PixelCurve, got {type(other).__name__}')
        for key in ('mode', 'protocol'):
            ours, theirs = getattr(self, key), getattr(other, key)
            if ours != theirs:
                raise ValueError(f'curves of different {key}s cannot be merged: {ours!r} and {theirs!r}')


def _select(values: Tensor, mask: Tensor) -> Tensor:
    """Values (P,) where the mask (P,) is true; NumPy does that several times as fast as torch on a CPU."""
    on_cpu = values.device.type == 'cpu'
    return torch.from_numpy(values.numpy()[mask.numpy()]) if on_cpu else values[mask]


def _to_tensor(values: ArrayLike) -> Tensor:
    """Tensor of an array, without a copy where that is possible."""
    if isinstance(values, Tensor):
        return values.detach()
    values = np.ascontiguousarray(values)
    if values.dtype.kind == 'u' and values.dtype.itemsize > 1:
        values = values.astype(np.int64)
    elif values.dtype.kind not in 'biuf':
        raise TypeError(f'scores and labels must be numbers, got {values.dtype}')
    if values.dtype == np.longdouble:
        values = values.astype(np.float64)
    return torch.from_numpy(values if values.flags.writeable else values.copy())
