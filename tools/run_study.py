# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Run a study: train and test a list of configs with several seeds, and write one table with mean and spread.

    python tools/run_study.py configs/studies/cityscapes256.py                  # one run after another
    python tools/run_study.py configs/studies/cityscapes.py --gpus 0 1 2 3      # four at a time
    python tools/run_study.py configs/studies/cityscapes.py --gpus 0 1 2 3 --gpus-per-run 2

Every run is a call of ``tools/train.py`` and ``tools/test.py``, and is printed. Finished runs are skipped; an
interrupted study resumes, a training from its latest checkpoint. The same study may be started on
several machines that share the folder: each takes runs that no other has.
"""
import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'projects'))
from mgcda.studies.runner import Pool, StepFailed, find_slots, run_study
from mgcda.studies.study import Study, clock, read_study
from mgcda.studies.table import write_tables

say = partial(print, flush=True)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Train and test a list of configs with several seeds')
    parser.add_argument('study', help='study file; configs/studies has some')
    parser.add_argument('--gpus', nargs='+', metavar='ID', help='GPUs to use; default: all that are visible')
    parser.add_argument('--gpus-per-run', type=int, default=1, metavar='N', help='default: 1')
    parser.add_argument('--jobs', type=int, metavar='N', help='runs at a time without a GPU; default: 1')
    parser.add_argument('--only', nargs='+', metavar='ROW', help='run these rows; the table has all that are done')
    parser.add_argument('--seeds', type=int, nargs='+', help='in the place of those of the study')
    parser.add_argument('--skip-steps', action='store_true', help='take what the steps make for made')
    parser.add_argument('--work-dir', help='for the rows and the table, in the place of that of the study')
    parser.add_argument('--list', action='store_true', help='say what is done and what is not, and run nothing')
    args = parser.parse_args(argv)
    if args.gpus_per_run < 1 or (args.jobs is not None and args.jobs < 1):
        parser.error('--gpus-per-run and --jobs must be at least 1')
    return args


def print_state(study: Study) -> None:
    """What is done and what is not."""
    width = max(len(job.name) for job in study.jobs)
    for job in study.jobs:
        try:
            todo = job.todo()
            state = f'to do: {", ".join(stage.name for stage in todo)}' if todo else f'done in {clock(job.seconds())}'
        except ValueError as error:
            state = str(error)
        print(f'{job.name:{width}}  {state}')


def raise_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    start = time.time()
    study = read_study(args.study, ROOT, args.seeds, args.work_dir)
    if args.list:
        print_state(study)
        return
    jobs, pool = study.row_jobs(args.only), Pool(find_slots(args.gpus, args.gpus_per_run, args.jobs), say)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, raise_interrupt)
    try:
        num_todo = run_study(study, jobs, pool, args.skip_steps)
    except KeyboardInterrupt:
        raise SystemExit('interrupted; the same command goes on from here') from None
    except StepFailed as error:
        raise SystemExit(str(error)) from None
    table = write_tables(study, say)
    if table is not None:
        say(f'\n{table.read_text()}\nwritten to {table}; {clock(time.time() - start)} in all')
    if pool.failed:
        raise SystemExit(f'{len(pool.failed)} of {num_todo} runs failed: {", ".join(pool.failed)}')


if __name__ == '__main__':
    main()
