# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Print results of several methods, and published ones, as a table.

    python tools/analysis_tools/results_table.py work_dirs/a/results.json work_dirs/b/results.json --names A B \
        --metrics AP FPR95 --published mgcda

A row for each method, columns for each data set and metric, in percent but for ``F1_threshold``. Results under the same
of the ``--names`` are runs of one method, such as seeds: their mean and standard deviation. Numbers that papers report
are marked as quoted, with their source and what makes them comparable or not; Markdown, CSV or JSON.
"""
import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))

with contextlib.redirect_stdout(sys.stderr):  # libraries print when they are imported, and the table goes there
    from mgcda.studies.table import FORMATS, METRICS, make_table
    from mgcda.utils.files import write_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Print results of several methods as a table')
    parser.add_argument(
        'results',
        nargs='*',
        metavar='RESULTS.json',
        help='files that tools/test.py --out or '
        'tools/analysis_tools/evaluate_scores.py --out wrote')
    parser.add_argument(
        '--names',
        nargs='+',
        help='names of the methods, one a file; files of the same name are runs of '
        'one method; default: those of the folders or files, which must differ')
    parser.add_argument(
        '--metrics', nargs='+', help='columns of each data set; default: what there is of '
        f'{", ".join(METRICS)}')
    parser.add_argument('--data-sets', nargs='+', help='default: all that have one of the metrics')
    parser.add_argument(
        '--published',
        nargs='*',
        metavar='SOURCE',
        help='add published results, of all sources or of '
        'these: mgcda, synboost, pebal, later')
    parser.add_argument('--format', choices=tuple(FORMATS), default='markdown')
    parser.add_argument('--out', metavar='FILE', help='file to write; default: the terminal')
    args = parser.parse_args(argv)
    if not args.results and args.published is None:
        parser.error('name a results.json, or ask for --published')
    if args.names and len(args.names) != len(args.results):
        parser.error(f'{len(args.names)} --names for {len(args.results)} files')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    text, remarks = make_table(args.results, args.names, args.metrics, args.data_sets, args.published, args.format)
    if args.format != 'markdown':
        print(*remarks, sep='\n', end='\n' * bool(remarks), file=sys.stderr)
    if args.out:
        write_file(args.out, text.encode())
    else:
        print(text, end='')


if __name__ == '__main__':
    main()
