# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""``results.json``: what one evaluation found, for tables and plots."""
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgcda.utils.files import write_file

#: Version of the layout of the file.
FORMAT = 1
#: Data sets by what was evaluated, scores or predicted classes, and the counts of each.
PARTS = dict(data_sets=('num_images', 'num_normal', 'num_anomaly'), segmentation=('num_images', 'num_pixels'))
CURVE_KEYS = ('threshold', 'recall', 'precision', 'fpr')


def write_results(path: str | Path, results: dict[str, Any]) -> None:
    """Write the results of one evaluation as JSON, whole or not at all.

    Args:
        path: Usually ``results.json`` beside the score maps.
        results: ``protocol`` and ``mode`` (str), and ``data_sets``: name -> dict of ``num_images``, ``num_normal``,
            ``num_anomaly`` (int), ``metrics`` (key -> percent, or a score for ``F1_threshold``) and, if kept, ``curve``
            (``threshold`` descending, ``recall``, ``precision``, ``fpr``: sequences of one length, fractions).
            Where predicted classes were evaluated, ``segmentation``: name -> dict of ``num_images``, ``num_pixels``
            (int, those with a class), ``metrics`` (``mIoU``, ``mAcc``, ``aAcc``) and ``IoU`` (class -> percent);
            ``data_sets`` may then be empty. ``format`` is added. NumPy arrays and numbers are taken; NaN becomes null,
            infinite values the strings ``"inf"`` and ``"-inf"``, which JSON lacks.

    Raises:
        ValueError: ``results`` are not of this form; the message names file and key.
    """
    content = {'format': FORMAT, **results}
    _check(path, _as_read(content))
    write_file(path, (json.dumps(_to_json(content), indent=1, allow_nan=False) + '\n').encode())


def read_results(path: str | Path) -> dict[str, Any]:
    """Results that :func:`write_results` wrote; metrics and curves as floats and float64 arrays, null as NaN.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is no JSON, or not of this form; the message names file and key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist; AnomalyMetric with output_dir writes a results.json')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is no JSON file: {error}') from error
    content = _as_read(content)
    _check(path, content)
    return content


def method_name(path: str | Path) -> str:
    """Name of a method by the file of its results: that of the folder where the file is plain ``results.json``."""
    path = Path(path).resolve()
    return path.parent.name if path.name == 'results.json' else path.stem


def read_methods(paths: Sequence[str | Path], names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Results of several methods by their names, by default those of :func:`method_name`.

    Raises:
        FileNotFoundError: As :func:`read_results`.
        ValueError: Two of one name; as :func:`read_results`.
    """
    names = names or [method_name(path) for path in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f'several of the results are named {", ".join(twice)}: tell them apart with --names')
    return {name: read_results(path) for name, path in zip(names, paths)}


def differences(results: Mapping[str, dict[str, Any]], data_sets: Sequence[str], official: Mapping[str,
                                                                                                   int]) -> list[str]:
    """What keeps results from being compared, beside protocols: incomplete benchmarks, and other images or labels.

    Args:
        results: Method -> its results, as :func:`read_results` gives them.
        data_sets: Those to look at.
        official: Images of the complete benchmarks, by name.

    Returns:
        A sentence for each thing.
    """
    found = []
    for name in data_sets:
        entries = {
            method: content[part][name]
            for method, content in results.items()
            for part in PARTS if name in content.get(part, {})
        }
        wanted = official.get(name.split('@')[0])  # 'RoadAnomaly@256x512' is counted at a reduced size
        counts = {entry['num_images'] for entry in entries.values()} - {wanted}
        if wanted is not None and counts:
            methods = [method for method, entry in entries.items() if entry['num_images'] != wanted]
            found.append(f'{name} has {wanted} images, but {" or ".join(map(str, sorted(counts)))} were used for '
                         f'{", ".join(methods)}: these results do not compare with others.')
        pixels = {method: _pixels_of(entry) for method, entry in entries.items()}
        if len(set(pixels.values())) > 1:
            found.append(f'The results on {name} are of other images or labels: ' +
                         ', '.join(f'{method} {text}' for method, text in pixels.items()) + '.')
    return found


def _pixels_of(entry: dict[str, Any]) -> str:
    """The labelled pixels of a data set in words."""
    if 'num_pixels' in entry:
        return f'{entry["num_pixels"]} pixels with a class'
    return f'{entry["num_normal"]} normal and {entry["num_anomaly"]} anomaly pixels'


def _to_json(value: Any) -> Any:
    """The value in terms of JSON."""
    if isinstance(value, dict):
        return {key: _to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return _to_json(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _as_read(content: Any) -> Any:
    """A copy whose metrics are floats and whose curves are arrays, as far as they are of the right form."""
    if not isinstance(content, dict):
        return content
    parts = {part: content[part] for part in PARTS if isinstance(content.get(part), dict)}
    return {
        **content,
        **{
            part: {
                name: _data_set_as_read(entry)
                for name, entry in entries.items()
            }
            for part, entries in parts.items()
        }
    }


def _data_set_as_read(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    entry = dict(entry)
    for values in ('metrics', 'IoU'):
        if isinstance(entry.get(values), dict):
            entry[values] = {key: _number(value) for key, value in entry[values].items()}
    if isinstance(entry.get('curve'), dict):
        entry['curve'] = {key: _curve_part(values) for key, values in entry['curve'].items()}
    return entry


def _curve_part(values: Any) -> Any:
    if not isinstance(values, (list, tuple, np.ndarray)):
        return values
    values = [_number(value) for value in values]
    return np.array(values, np.float64) if all(map(_is_number, values)) else values


def _number(value: Any) -> Any:
    if value is None:
        return math.nan
    return float(value) if isinstance(value, str) and value in ('inf', '-inf') else value


def _check(path: str | Path, content: Any) -> None:
    """Raise where results are not of the documented form."""

    def require(condition: bool, key: str, rule: str) -> None:
        if not condition:
            raise ValueError(f'{path}: {key} must be {rule}')

    require(isinstance(content, dict), 'the file', 'a dict with format, protocol, mode and data_sets')
    require(content.get('format') == FORMAT, 'format', f'{FORMAT}, got {content.get("format")!r}')
    for key in ('protocol', 'mode'):
        require(isinstance(content.get(key), str), key, f'a string, got {content.get(key)!r}')
    data_sets, segmentation = content.get('data_sets'), content.get('segmentation', {})
    require(isinstance(segmentation, dict), 'segmentation', 'a dict of data sets')
    require(
        isinstance(data_sets, dict) and bool(data_sets or segmentation), 'data_sets', 'a dict of at least one data set')
    for part, counts in PARTS.items():
        for name, entry in content.get(part, {}).items():
            _check_data_set(entry, f'{part}.{name}', counts, require)
    for name, entry in data_sets.items():
        if 'curve' in entry:
            _check_curve(entry['curve'], f'data_sets.{name}.curve', require)
    for name, entry in segmentation.items():
        _check_numbers(entry.get('IoU'), f'segmentation.{name}.IoU', require)


def _check_data_set(entry: Any, key: str, counts: Sequence[str], require: Any) -> None:
    require(isinstance(entry, dict), key, f'a dict of {", ".join(counts)} and metrics')
    for count in counts:
        value = entry.get(count)
        require(_is_integer(value) and value >= 0, f'{key}.{count}', f'an integer >= 0, got {value!r}')
    _check_numbers(entry.get('metrics'), f'{key}.metrics', require)


def _check_numbers(values: Any, key: str, require: Any) -> None:
    require(isinstance(values, dict), key, 'a dict of numbers')
    for name, value in values.items():
        require(_is_number(value), f'{key}.{name}', f'a number or null, got {value!r}')


def _check_curve(curve: Any, key: str, require: Any) -> None:
    require(isinstance(curve, dict), key, f'a dict of {", ".join(CURVE_KEYS)}')
    for part in CURVE_KEYS:
        values = curve.get(part)
        require(isinstance(values, np.ndarray) and values.ndim == 1, f'{key}.{part}', 'a list of numbers')
        size = curve[CURVE_KEYS[0]].size
        require(values.size == size > 0, f'{key}.{part}', f'as long as {CURVE_KEYS[0]}, {size}, and not empty')


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
