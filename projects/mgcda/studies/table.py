# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Tables of results: a row for each method, columns for each data set and metric, in Markdown, CSV or JSON."""
import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgcda.datasets.official import official_num_images
from mgcda.evaluation.published import read_published
from mgcda.evaluation.results import PARTS, differences, read_methods, read_results
from mgcda.utils.files import write_file

from .study import Study

#: Columns of each data set, as far as there are such results.
METRICS = ('AP', 'FPR95', 'mIoU')
ABSENT = '–'
FLAGS = {True: 'yes', False: 'no', None: ABSENT}
SPREAD = 'Of several runs: mean ± standard deviation.'
LEGEND = 'RT: the segmenter is trained again; OoD: outlier data is used; – : not given.'


class Row(NamedTuple):
    """A method.

    ``values``: data set -> metric -> percent, as text where it is quoted; ``spread``: alike, half the width of the
    certified bounds, or the standard deviation over ``runs`` where these are several. ``source``: number of the source
    of quoted values.
    """
    method: str
    values: dict[str, dict[str, Any]]
    spread: dict[str, dict[str, float]]
    protocol: str | None = None
    mode: str | None = None
    source: int | None = None
    retraining: bool | None = None
    ood_data: bool | None = None
    paper: str | None = None
    runs: int = 1


def own_row(content: dict[str, Any], name: str) -> Row:
    """The row of the content of a ``results.json``."""
    values: dict[str, dict[str, float]] = {}
    spread: dict[str, dict[str, float]] = {}
    for data_set, entry in content['data_sets'].items():
        metrics = entry['metrics']
        values[data_set] = {key: value for key, value in metrics.items() if not key.endswith(('_lower', '_upper'))}
        spread[data_set] = {
            key: (metrics[f'{key}_upper'] - metrics[f'{key}_lower']) / 2
            for key in values[data_set] if f'{key}_upper' in metrics
        }
    values.update({data_set: entry['metrics'] for data_set, entry in content.get('segmentation', {}).items()})
    return Row(name, values, spread, content['protocol'], content['mode'])


def mean_row(rows: Sequence[Row]) -> Row:
    """The row of several runs of one method: mean and standard deviation (of a sample, ddof=1) of each value.

    Raises:
        ValueError: The runs were not evaluated alike.
    """
    first = rows[0]
    if len(rows) == 1:
        return first
    for row in rows[1:]:
        if (row.protocol, row.mode) != (first.protocol, first.mode) or columns_of(row) != columns_of(first):
            raise ValueError(f'the results named {first.method} are not runs of one method: their protocols, modes, '
                             'data sets or metrics differ')
    values: dict[str, dict[str, float]] = {}
    spread: dict[str, dict[str, float]] = {}
    for data_set, metrics in columns_of(first).items():
        runs = {metric: [row.values[data_set][metric] for row in rows] for metric in metrics}
        values[data_set] = {metric: float(np.mean(numbers)) for metric, numbers in runs.items()}
        spread[data_set] = {metric: float(np.std(numbers, ddof=1)) for metric, numbers in runs.items()}
    return first._replace(values=values, spread=spread, runs=len(rows))


def columns_of(row: Row) -> dict[str, list[str]]:
    """The metrics that a row has of each data set."""
    return {data_set: list(values) for data_set, values in row.values.items()}


def quoted_rows(sources: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Rows of published results, and the notes on each source, the first of which is its title."""
    chosen, results = read_published(sources or None)
    numbers = {name: number for number, name in enumerate(chosen, start=1)}
    rows = [
        Row(entry.method,
            entry.values, {},
            source=numbers[entry.source],
            retraining=entry.retraining,
            ood_data=entry.ood_data,
            paper=entry.paper) for entry in results
    ]
    notes = [
        f'[{numbers[name]}] Quoted from {source.title}; not measured here. {" ".join(source.notes)}'.rstrip()
        for name, source in chosen.items()
    ]
    return rows, notes


def find_columns(rows: Sequence[Row], metrics: Sequence[str] | None,
                 data_sets: Sequence[str] | None) -> list[tuple[str, list[str]]]:
    """Data sets in the order of the rows, each with those of the metrics that a row has.

    Args:
        metrics: Those to show; None takes those of :data:`METRICS` that there are.

    Raises:
        ValueError: A data set or metric that no row has.
    """
    known = list(dict.fromkeys(name for row in rows for name in row.values))
    missing = sorted(set(data_sets or ()) - set(known))
    if missing:
        raise ValueError(f'there are no results on {", ".join(missing)}, but on {", ".join(known)}')
    columns = []
    for name in data_sets or known:
        present = {key for row in rows for key in row.values.get(name, ())}
        columns.append((name, [metric for metric in metrics or METRICS if metric in present]))
    absent = set(metrics or ()) - {metric for _, present in columns for metric in present}
    if absent:
        have = dict.fromkeys(key for row in rows for name in data_sets or known for key in row.values.get(name, ()))
        raise ValueError(f'there is no {", ".join(sorted(absent))}, but {", ".join(have)}')
    return [(name, present) for name, present in columns if present]


def text_of(row: Row, data_set: str, metric: str) -> str:
    """A value, quoted ones as they were printed; with half the width of its bounds where that shows in the digits."""
    value = row.values.get(data_set, {}).get(metric)
    if value is None or (not isinstance(value, str) and math.isnan(value)):
        return ABSENT
    if isinstance(value, str):
        return value
    spread = row.spread.get(data_set, {}).get(metric, 0)
    if metric == 'F1_threshold':
        return f'{value:.6g}'
    return f'{value:.2f}' + (f' ±{spread:.2f}' if spread >= 0.005 else '')


def markdown(rows: Sequence[Row], columns: Sequence[tuple[str, list[str]]], notes: Sequence[str]) -> str:
    """The table in Markdown, then the notes."""
    quoted, own = any(row.source for row in rows), any(row.source is None for row in rows)
    numbered = own or len(notes) > 1
    lines = [['method'] + ['protocol, mode'] * own + ['RT', 'OoD'] * quoted +
             [f'{name} {" / ".join(metrics)}' for name, metrics in columns]]
    for row in rows:
        cells = [
            row.method + (f' [{row.source}]' if row.source and numbered else '') +
            (f' ({row.runs} runs)' if row.runs > 1 else '')
        ]
        cells += [f'{row.protocol}, {row.mode}' if row.protocol else ABSENT] * own
        cells += [FLAGS[row.retraining], FLAGS[row.ood_data]] * quoted
        for name, metrics in columns:
            texts = [text_of(row, name, metric) for metric in metrics]
            cells.append(ABSENT if set(texts) == {ABSENT} else ' / '.join(texts))
        lines.append(cells)
    table = [f'| {" | ".join(cells)} |' for cells in lines]
    table.insert(1, '|---|' + '---|' * own + ':-:|:-:|' * quoted + '---|' * len(columns))
    remarks = [SPREAD] * any(row.runs > 1 for row in rows) + [LEGEND] * quoted
    remarks += [note if numbered else note.removeprefix('[1] ') for note in notes]
    return '\n\n'.join(['\n'.join(table), *remarks]) + '\n'


def to_csv(rows: Sequence[Row], columns: Sequence[tuple[str, list[str]]], notes: Sequence[str]) -> str:
    """A column a value, own ones unrounded, and one a standard deviation if there are any; the source in full."""
    buffer = io.StringIO(newline='')
    writer = csv.writer(buffer, lineterminator='\n')
    keys = [f'{name}/{metric}' for name, metrics in columns for metric in metrics]
    several = any(row.runs > 1 for row in rows)
    writer.writerow(['method', 'quoted', 'protocol', 'mode', 'retraining', 'ood_data', *keys] +
                    ['runs', *(f'{key}/std' for key in keys)] * several + ['source'])
    for row in rows:
        values = [row.values.get(name, {}).get(metric, '') for name, metrics in columns for metric in metrics]
        flags = ['' if flag is None else FLAGS[flag] for flag in (row.retraining, row.ood_data)]
        if several:
            stds = row.spread if row.runs > 1 else {}
            values += [
                row.runs, *(stds.get(name, {}).get(metric, '') for name, metrics in columns for metric in metrics)
            ]
        writer.writerow([
            row.method, FLAGS[row.source is not None], row.protocol or '', row.mode or '', *flags, *values,
            note_of(row, notes)
        ])
    return buffer.getvalue()


def to_json(rows: Sequence[Row], columns: Sequence[tuple[str, list[str]]], notes: Sequence[str]) -> str:
    """Rows as objects; values as numbers, undefined ones null."""

    def number(value: Any) -> float | None:
        value = float(value)
        return value if math.isfinite(value) else None

    def pick(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
        return {
            name: {
                metric: number(table[name][metric])
                for metric in metrics if metric in table[name]
            }
            for name, metrics in columns if name in table
        }

    content = []
    for row in rows:
        content.append(
            dict(
                method=row.method,
                quoted=row.source is not None,
                protocol=row.protocol,
                mode=row.mode,
                retraining=row.retraining,
                ood_data=row.ood_data,
                values=pick(row.values),
                **(dict(runs=row.runs, std=pick(row.spread)) if row.runs > 1 else {}),
                source=note_of(row, notes) or None))
    return json.dumps(content, indent=1, ensure_ascii=False) + '\n'


def note_of(row: Row, notes: Sequence[str]) -> str:
    """What is to be said of a quoted row."""
    if row.source is None:
        return ''
    note = notes[row.source - 1].removeprefix(f'[{row.source}] ')
    return f'{row.paper}. {note}' if row.paper else note


def read_runs(paths: Sequence[str], names: Sequence[str] | None) -> tuple[dict[str, dict], dict[str, str]]:
    """Results by a key for each file, and the name of the method of each key; names that are given may repeat."""
    if names is None:
        methods = read_methods(paths)
        return methods, {name: name for name in methods}
    keys: list[str] = []
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        keys.append(f'{name} ({seen[name]})' if names.count(name) > 1 else name)
    return read_methods(paths, keys), dict(zip(keys, names))


FORMATS = dict(markdown=markdown, csv=to_csv, json=to_json)


def make_table(paths: Sequence[str],
               names: Sequence[str] | None = None,
               metrics: Sequence[str] | None = None,
               data_sets: Sequence[str] | None = None,
               published: Sequence[str] | None = None,
               layout: str = 'markdown') -> tuple[str, list[str]]:
    """The table of results, and remarks on what does not compare.

    Args:
        paths: Files ``results.json``.
        names: A method for each file; files of one method are its runs. None takes the names of folders or files.
        metrics: Columns of each data set; None takes those of :data:`METRICS` that there are.
        data_sets: Data sets with columns; None takes all that have one of the metrics.
        published: Sources of published results to add, all if empty; None adds none.
        layout: One of :data:`FORMATS`. Markdown ends with the remarks.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is damaged, files of one method are not runs of it, or a column or source is unknown.
    """
    methods, method_names = read_runs(paths, names)
    runs: dict[str, list[Row]] = {}
    for key, content in methods.items():
        runs.setdefault(method_names[key], []).append(own_row(content, method_names[key]))
    rows = [mean_row(rows) for rows in runs.values()]
    notes: list[str] = []
    if published is not None:
        quoted, notes = quoted_rows(published)
        rows += quoted
    columns = find_columns(rows, metrics, data_sets)
    shown = {name for name, _ in columns}
    rows = [row for row in rows if row.source is None or shown & row.values.keys()]
    remarks = differences(methods, [name for name, _ in columns], official_num_images())
    text = FORMATS[layout](rows, columns, notes)
    if layout == 'markdown':
        text += ''.join(f'\n{remark}\n' for remark in remarks)
    return text, remarks


def write_tables(study: Study, report: Callable[[str], None]) -> Path | None:
    """Write the tables of all rows that have results, ``<study>.md`` and ``<study>.csv`` beside the runs.

    Returns:
        Path of the former; None if there are no results.
    """
    results: dict[Path, dict] = {}
    names: list[str] = []
    for row in study.rows:
        for job in row.jobs:
            folder = job.folder / 'test' if len(job.stages) > 1 else job.folder
            try:
                if job.todo():
                    continue
                several = sorted(folder.glob('*/results.json'))  # a folder a score
                found = {path: read_results(path) for path in several or [folder / 'results.json']}
            except (OSError, ValueError) as error:
                report(f'[{job.name}] is left out of the table: {error}')
                continue
            results.update(found)
            names += [f'{row.name}: {path.parent.name}' if several else row.name for path in found]
    if not results:
        return None
    columns = present_columns(study, list(results.values()))
    for layout, suffix in (('csv', 'csv'), ('markdown', 'md')):
        text, _ = make_table([str(path) for path in results], names, layout=layout, **columns)
        path = study.work_dir / f'{study.name}.{suffix}'
        write_file(path, text.encode())
    return path


def present_columns(study: Study, results: Sequence[dict]) -> dict[str, list[str] | None]:
    """The study's data sets and metrics, as far as there are results: not all rows may be done yet."""
    have: dict[str, set] = {}
    for content in results:
        for name, entry in [entry for part in PARTS for entry in content.get(part, {}).items()]:
            have.setdefault(name, set()).update(entry['metrics'])
    data_sets = [name for name in study.columns['data_sets'] if name in have]
    present = set().union(*(have[name] for name in data_sets or have))
    metrics = [name for name in study.columns['metrics'] if name in present]
    return dict(data_sets=data_sets or None, metrics=metrics or None)
