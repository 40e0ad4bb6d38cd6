# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Draw the precision-recall and ROC curves of several methods on one data set.

    python tools/analysis_tools/plot_curves.py work_dirs/a/results.json work_dirs/b/results.json --names A B \
        --dataset RoadAnomaly --out work_dirs/curves.pdf
"""
import argparse
import io
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))

from mgcda.datasets.official import official_num_images
from mgcda.evaluation.results import differences, read_methods
from mgcda.utils.files import write_file

#: Okabe and Ito's colours, which the colour-blind can tell apart; more methods repeat them with other lines.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
LINES = ('-', '--', ':', '-.')
RECALL = 0.95
#: What the legend gives, and its letters a line.
VALUES = ('AP', 'AUROC', 'FPR95')
LABEL_WIDTH = 110
STYLE = {
    'font.size': 9,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.alpha': 0.3,
    'svg.hashsalt': 'mgcda',
    'svg.fonttype': 'none',
    'pdf.fonttype': 42
}
SUFFIXES = ('.png', '.pdf', '.svg')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Draw precision-recall and ROC curves')
    parser.add_argument('results', nargs='+', metavar='RESULTS.json', help='one file a method')
    parser.add_argument('--names', nargs='+', help='names of the methods; default: those of the folders or files')
    parser.add_argument('--dataset', required=True, help='data set, as it is named in the files')
    parser.add_argument('--out', required=True, metavar='FILE', help='picture to write, .png, .pdf or .svg')
    parser.add_argument('--log', action='store_true', help='false positive rate on a logarithmic scale')
    parser.add_argument('--dpi', type=int, default=200, help='of .png')
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.results):
        parser.error(f'{len(args.names)} --names for {len(args.results)} files')
    if Path(args.out).suffix.lower() not in SUFFIXES:
        parser.error(f'--out must end on {", ".join(SUFFIXES)}')
    return args


def entry_of(content: dict[str, Any], data_set: str, name: str) -> dict[str, Any]:
    """Metrics and curve of a data set in the results of a method.

    Raises:
        ValueError: They have no such data set, or no curve of it.
    """
    data_sets = content['data_sets']
    if data_set not in data_sets:
        raise ValueError(f'{name} has no results on {data_set}, but on {", ".join(data_sets)}')
    if 'curve' not in data_sets[data_set]:
        raise ValueError(f'{name} has no curve of {data_set}')
    return data_sets[data_set]


def labels_of(methods: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the methods, with their protocols where these differ."""
    several = len({content['protocol'] for content in methods.values()}) > 1
    return [f'{name}, {content["protocol"]}' if several else name for name, content in methods.items()]


def label_of(name: str, metrics: dict[str, float]) -> str:
    """Name of a method with its values in percent, in lines that the picture has room for."""
    values = ', '.join(f'{key} {metrics[key]:.1f}' for key in VALUES if key in metrics)
    return '\n'.join(textwrap.wrap(f'{name} ({values})', LABEL_WIDTH))


def draw_precision_recall(axes: Axes, entry: dict[str, Any], style: dict) -> Line2D:
    """Precision over recall, as the steps that AP sums up: of each recall, that of the next point."""
    curve = entry['curve']
    recall, precision = np.append(0, curve['recall']), np.append(curve['precision'][:1], curve['precision'])
    return axes.step(recall, precision, where='pre', **style)[0]


def draw_roc(axes: Axes, entry: dict[str, Any], style: dict, lowest: float) -> None:
    """True over false positive rate, with a point at FPR95; rates below ``lowest`` are drawn there."""
    curve, metrics = entry['curve'], entry['metrics']
    fpr, recall = np.concatenate([[0], curve['fpr'], [1]]), np.concatenate([[0], curve['recall'], [1]])
    axes.plot(np.maximum(fpr, lowest), recall, **style)
    if 'FPR95' in metrics:
        point = max(metrics['FPR95'] / 100, lowest)
        axes.plot(point, RECALL, 'o', color=style['color'], markersize=4, zorder=3, clip_on=False)


def draw(entries: Sequence[dict[str, Any]], names: Sequence[str], data_set: str, log: bool) -> plt.Figure:
    """Both curves side by side, above a legend."""
    labels, lines = [label_of(name, entry['metrics']) for name, entry in zip(names, entries)], []
    lowest = smallest_rate(entries) if log else 0.0
    num_rows = sum(1 + label.count('\n') for label in labels)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4 + 0.2 * num_rows), layout='constrained')
    for number, entry in enumerate(entries):
        style = dict(
            color=COLOURS[number % len(COLOURS)], linestyle=LINES[number // len(COLOURS) % len(LINES)], linewidth=1.5)
        lines.append(draw_precision_recall(left, entry, style))
        draw_roc(right, entry, style, lowest)
    for axes in (left, right):
        axes.set(ylim=(0, 1.01), box_aspect=1)
    left.set(xlabel='recall', ylabel='precision', xlim=(0, 1), title='Precision and recall')
    right.axhline(RECALL, color='grey', linewidth=0.8, linestyle=':', zorder=0)
    right.set(xlabel='false positive rate', ylabel='true positive rate', title='ROC; points: FPR at 95 % TPR')
    right.set(xscale='log' if log else 'linear', xlim=(lowest, 1))
    figure.suptitle(data_set)
    figure.legend(lines, labels, loc='outside lower center', frameon=False)
    return figure


def smallest_rate(entries: Sequence[dict[str, Any]]) -> float:
    """Power of ten below the false positive rates that the curves reach at a tenth of the anomalies, and FPR95."""
    rates: list[float] = [0.1]
    for entry in entries:
        curve = entry['curve']
        rates += [*curve['fpr'][curve['recall'] >= 0.1][:1], entry['metrics'].get('FPR95', 100) / 100]
    smallest = min((rate for rate in rates if rate > 0), default=1e-4)
    return 10.0**np.floor(np.log10(max(smallest, 1e-6)))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    methods = read_methods(args.results, args.names)
    entries = [entry_of(content, args.dataset, name) for name, content in methods.items()]
    plt.switch_backend('Agg')  # no window, and no display needed
    with plt.rc_context(STYLE):
        figure = draw(entries, labels_of(methods), args.dataset, args.log)
        metadata = {'.pdf': dict(CreationDate=None), '.svg': dict(Date=None)}.get(Path(args.out).suffix.lower())
        picture = io.BytesIO()
        figure.savefig(picture, format=Path(args.out).suffix[1:].lower(), dpi=args.dpi, metadata=metadata)
        plt.close(figure)
    write_file(args.out, picture.getvalue())
    print(*differences(methods, [args.dataset], official_num_images()), f'written to {args.out}', sep='\n')


if __name__ == '__main__':
    main()
