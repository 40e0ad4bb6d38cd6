# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Measure time and memory: of data, training, metrics and scores.

    python tools/analysis_tools/benchmark.py train --size 256 512 --batch 8
    python tools/analysis_tools/benchmark.py metric --help

Each subcommand is a module of ``benchmarks``, which explains what it compares.
"""
import argparse
import os
import sys
from collections.abc import Sequence

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))
from benchmarks import data, metric, scores, train

COMMANDS = dict(data=data, train=train, metric=metric, scores=scores)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    parsers = {}
    for name, module in COMMANDS.items():
        parsers[name] = commands.add_parser(
            name,
            help=module.__doc__.partition('\n')[0],
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(parsers[name])
    args = parser.parse_args(argv)
    COMMANDS[args.command].run(args, parsers[args.command])


if __name__ == '__main__':
    main()
