# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Run a study: train and test a list of configs with several seeds, and write one table with mean and spread.

    python tools/run_study.py configs/studies/cityscapes256.py                  # one run after another
    python tools/run_study.py configs/studies/cityscapes.py --gpus 0 1 2 3      # four at a time
    python tools/run_study.py configs/studies/cityscapes.py --gpus 0 1 2 3 --gpus-per-run 2

Every run is a call of ``tools/train.py`` and ``tools/test.py``, and is printed. What is done is not done again; an
interrupted study goes on where it stopped, a training from its latest checkpoint. The same study may be started on
several machines that share the folder: each takes runs that no other has.
"""
import argparse
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from study_utils import Job, Stage, Study, clock, find_checkpoint, read_study

from mgcda.evaluation.results import PARTS, read_results
from mgcda.folder_lock import FolderInUse

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'analysis_tools'))
import results_table

#: Lines of a tool's output that tell how far it is.
PROGRESS = ('(train)', '(test)', '(val)', ' written to ', ' are in ')
TAIL = 15  # lines of the log of a run that failed
POLL = 2  # seconds between looks whether another process has finished a run
CHECKPOINT = 2  # place of the checkpoint among the words of a test


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


def find_slots(args: argparse.Namespace) -> list[list[str]]:
    """Which GPUs each run that goes on at a time may use; empty lists where there are none.

    Raises:
        ValueError: The options do not fit this machine.
    """
    gpus = args.gpus or visible_gpus()
    if not gpus:
        if args.gpus_per_run > 1:
            raise ValueError('--gpus-per-run needs GPUs, and none is visible')
        return [[]] * (args.jobs or 1)
    if args.jobs is not None:
        raise ValueError('--jobs is for machines without a GPU; here --gpus says how many runs go on at a time')
    if len(gpus) % args.gpus_per_run:
        raise ValueError(f'{len(gpus)} GPUs cannot be shared out to runs of {args.gpus_per_run} each')
    return [gpus[i:i + args.gpus_per_run] for i in range(0, len(gpus), args.gpus_per_run)]


def visible_gpus() -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES has them, in the order of PyTorch's indices."""
    count = torch.cuda.device_count()
    names = os.environ.get('CUDA_VISIBLE_DEVICES', ','.join(map(str, range(count))))
    return [name.strip() for name in names.split(',')][:count]


class Pool:
    """Runs jobs side by side, one a slot, and keeps going when one fails."""

    def __init__(self, slots: Sequence[list[str]]) -> None:
        self.slots: queue.Queue = queue.Queue()
        for slot in slots:
            self.slots.put(slot)
        self.size = len(slots)
        self.failed: list[str] = []
        self._processes: set = set()
        self._stopped = threading.Event()

    def run(self, jobs: Sequence[Job], wait: bool) -> None:
        """Run what is to do of the jobs; ``wait`` for those that another process runs, instead of leaving them out."""
        with ThreadPoolExecutor(self.size) as executor:
            futures = [executor.submit(self._run_job, job, wait) for job in jobs]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self.stop()
                for future in futures:
                    future.cancel()
                raise

    def stop(self) -> None:
        """End what is running; it goes on from its latest checkpoint the next time."""
        self._stopped.set()
        for process in list(self._processes):
            process.terminate()

    def _run_job(self, job: Job, wait: bool) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    with job.claimed() as lock:
                        self._run_stages(job, lock)
                        return
                except FolderInUse as error:
                    if not wait:
                        print(f'[{job.name}] is run by another process: {error}', flush=True)
                        return
                self._stopped.wait(POLL)
        except (OSError, ValueError) as error:
            self._fail(job.name, str(error))

    def _run_stages(self, job: Job, lock: tuple[int, ...]) -> None:
        slot = self.slots.get()
        try:
            for stage in job.todo():
                if self._stopped.is_set() or not self._run_stage(job, stage, slot, lock):
                    return
        finally:
            self.slots.put(slot)

    def _run_stage(self, job: Job, stage: Stage, slot: list[str], lock: tuple[int, ...]) -> bool:
        """Run one command; whether it succeeded. All of its output goes to the log of the job, progress to us.

        The command holds the lock of the job, too: it may outlive this process, and must not be run twice.
        """
        words = self._command(stage, slot)
        print(f'[{job.name}] python {shlex.join(words)}', flush=True)
        start = time.time()
        log = job.folder / f'{stage.name}.log'
        with open(log, 'a') as file, subprocess.Popen([sys.executable, *words],
                                                      env=self._environment(slot),
                                                      stdout=subprocess.PIPE,
                                                      stderr=subprocess.STDOUT,
                                                      text=True,
                                                      errors='replace',
                                                      pass_fds=lock) as process:
            self._processes.add(process)
            if self._stopped.is_set():  # stop() did not see it
                process.terminate()
            for line in process.stdout:
                file.write(line)
                if any(word in line for word in PROGRESS):
                    print(f'[{job.name}] {line.rsplit("INFO - ", 1)[-1].strip()[:150]}', flush=True)
        self._processes.discard(process)
        seconds = time.time() - start
        if process.returncode == 0:
            job.finish(stage, seconds=round(seconds, 1), hardware=hardware(slot))
            print(f'[{job.name}] {stage.name} done in {clock(seconds)}', flush=True)
            return True
        if not self._stopped.is_set():
            tail = ''.join(log.read_text(errors='replace').splitlines(keepends=True)[-TAIL:])
            self._fail(job.name, f'{stage.name} failed (see {log}):\n{tail}')
        return False

    def _fail(self, name: str, reason: str) -> None:
        self.failed.append(name)
        print(f'[{name}] {reason}', flush=True)

    def _command(self, stage: Stage, slot: list[str]) -> list[str]:
        words = list(stage.command)
        if stage.name == 'test':
            hook = (stage.config.get('default_hooks') or {}).get('checkpoint') or {}
            words[CHECKPOINT] = find_checkpoint(words[CHECKPOINT], hook.get('out_dir'))
        if len(slot) > 1 and stage.name != 'command':
            launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={len(slot)}']
            options = words.index('--cfg-options') if '--cfg-options' in words else len(words)
            words = [*launch, *words[:options], '--launcher', 'pytorch', *words[options:]]
        return words

    def _environment(self, slot: list[str]) -> dict[str, str]:
        env = dict(os.environ, PYTHONWARNINGS='ignore', PYTHONUNBUFFERED='1')
        if slot:
            env['CUDA_VISIBLE_DEVICES'] = ','.join(slot)
        else:
            env.setdefault('OMP_NUM_THREADS', str(max((os.cpu_count() or 1) // self.size, 1)))
        return env


def hardware(slot: Sequence[str]) -> str:
    if not slot:
        return f'{os.cpu_count()} CPU cores'
    gpus = visible_gpus()
    known = slot[0] in gpus
    return f'{len(slot)} x {torch.cuda.get_device_name(gpus.index(slot[0]))}' if known else f'GPUs {", ".join(slot)}'


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


def write_tables(study: Study) -> Path | None:
    """The tables of all rows that have results, in Markdown and CSV, named after the study, beside the runs."""
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
                print(f'[{job.name}] is left out of the table: {error}', flush=True)
                continue
            results.update(found)
            names += [f'{row.name}: {path.parent.name}' if several else row.name for path in found]
    if not results:
        return None
    words = [*map(str, results), '--names', *names, *find_columns(study, list(results.values()))]
    for kind, suffix in (('markdown', 'md'), ('csv', 'csv')):
        out = str(study.work_dir / f'{study.name}.{suffix}')
        results_table.main([*words, '--format', kind, '--out', out])
    return study.work_dir / f'{study.name}.md'


def find_columns(study: Study, results: Sequence[dict]) -> list[str]:
    """The study's columns as options of the table, as far as there are results: not all rows may be done yet."""
    have: dict[str, set] = {}
    for content in results:
        for name, entry in [entry for part in PARTS for entry in content.get(part, {}).items()]:
            have.setdefault(name, set()).update(entry['metrics'])
    data_sets = [name for name in study.columns['data_sets'] if name in have]
    present = set().union(*(have[name] for name in data_sets or have))
    metrics = [name for name in study.columns['metrics'] if name in present]
    return ['--data-sets', *data_sets] * bool(data_sets) + ['--metrics', *metrics] * bool(metrics)


def choose(study: Study, only: Sequence[str] | None) -> list[Job]:
    """The jobs of the rows to run.

    Raises:
        ValueError: The study has no such row.
    """
    names = [row.name for row in study.rows]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise ValueError(f'the study has no row {", ".join(unknown)}, but {", ".join(names)}')
    return [job for row in study.rows if only is None or row.name in only for job in row.jobs]


def undone(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.todo()]


def raise_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    start = time.time()
    study = read_study(args.study, args.seeds, args.work_dir)
    if args.list:
        print_state(study)
        return
    jobs, pool = choose(study, args.only), Pool(find_slots(args))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, raise_interrupt)
    groups = [] if args.skip_steps else study.steps
    undone([job for group in groups for job in group])  # what has changed since is refused before anything runs
    todo = undone(jobs)
    print(
        f'{args.study}: {len(jobs) - len(todo)} of {len(jobs)} runs are done; results go to {study.work_dir}',
        flush=True)
    try:
        for group in groups:
            for wait in (False, True):  # first what no other process runs, then what another has not finished
                pool.run(undone(group), wait)
                if pool.failed:
                    raise SystemExit(f'the runs need {", ".join(pool.failed)}, which failed')
        pool.run(todo, wait=False)
    except KeyboardInterrupt:
        raise SystemExit('interrupted; the same command goes on from here') from None
    table = write_tables(study)
    if table is not None:
        print(f'\n{table.read_text()}\nwritten to {table}; {clock(time.time() - start)} in all', flush=True)
    if pool.failed:
        raise SystemExit(f'{len(pool.failed)} of {len(todo)} runs failed: {", ".join(pool.failed)}')


if __name__ == '__main__':
    main()
