# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Running the jobs of a study side by side, on GPUs or without."""
import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from mgcda.utils.folder_lock import FolderInUse

from .study import Job, Stage, Study, clock, find_checkpoint

#: Lines of a tool's output that tell how far it is.
PROGRESS = ('(train)', '(test)', '(val)', ' written to ', ' are in ')
TAIL = 15  # lines of the log of a run that failed
POLL = 2  # seconds between looks whether another process has finished a run
CHECKPOINT = 2  # place of the checkpoint among the words of a test


class StepFailed(RuntimeError):
    """A step failed that the rows of a study need."""


class Pool:
    """Runs jobs side by side, one a slot, and keeps going when one fails.

    Args:
        slots: GPUs of each run that goes on at a time; empty lists where there are none.
        report: Takes lines on the progress.
    """

    def __init__(self, slots: Sequence[list[str]], report: Callable[[str], None]) -> None:
        self.report = report
        self.slots: queue.Queue[list[str]] = queue.Queue()
        for slot in slots:
            self.slots.put(slot)
        self.size = len(slots)
        self.failed: list[str] = []
        self._processes: set[subprocess.Popen] = set()
        self._stopped = threading.Event()

    def run(self, jobs: Sequence[Job], wait: bool) -> None:
        """Run the unfinished stages of the jobs; ``wait`` for jobs that another process runs, or leave them out."""
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
        """End what is running; trainings resume from their latest checkpoints the next time."""
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
                        self.report(f'[{job.name}] is run by another process: {error}')
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
        """Run one command; whether it succeeded. All of its output goes to the log of the job, progress is reported.

        The command holds the lock of the job as well: it may outlive this process, and must not be run twice.
        """
        words = self._command(stage, slot)
        self.report(f'[{job.name}] python {shlex.join(words)}')
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
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                if any(word in line for word in PROGRESS):
                    self.report(f'[{job.name}] {line.rsplit("INFO - ", 1)[-1].strip()[:150]}')
        self._processes.discard(process)
        seconds = time.time() - start
        if process.returncode == 0:
            job.finish(stage, seconds=round(seconds, 1), hardware=hardware(slot))
            self.report(f'[{job.name}] {stage.name} done in {clock(seconds)}')
            return True
        if not self._stopped.is_set():
            tail = ''.join(log.read_text(errors='replace').splitlines(keepends=True)[-TAIL:])
            self._fail(job.name, f'{stage.name} failed (see {log}):\n{tail}')
        return False

    def _fail(self, name: str, reason: str) -> None:
        self.failed.append(name)
        self.report(f'[{name}] {reason}')

    def _command(self, stage: Stage, slot: list[str]) -> list[str]:
        words = list(stage.command)
        if stage.name == 'test':
            hook = ((stage.config or {}).get('default_hooks') or {}).get('checkpoint') or {}
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


def run_study(study: Study, jobs: Sequence[Job], pool: Pool, skip_steps: bool = False) -> int:
    """Run the steps of a study and then those of the jobs that are not done; ``pool.failed`` names those that failed.

    Args:
        study: Study whose steps come first.
        jobs: Jobs of its rows.
        pool: What runs them.
        skip_steps: Whether to take the steps for done.

    Returns:
        Number of jobs that were not done.

    Raises:
        StepFailed: If a step fails.
        ValueError: If what a finished job did has changed since; nothing runs then.
    """
    groups = [] if skip_steps else study.steps
    undone([job for group in groups for job in group])  # refuses what has changed before anything runs
    todo = undone(jobs)
    pool.report(f'{study.path}: {len(jobs) - len(todo)} of {len(jobs)} runs are done; results go to {study.work_dir}')
    for group in groups:
        for wait in (False, True):  # first what no other process runs, then what another has not finished
            pool.run(undone(group), wait)
            if pool.failed:
                raise StepFailed(f'the runs need {", ".join(pool.failed)}, which failed')
    pool.run(todo, wait=False)
    return len(todo)


def undone(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that have unfinished stages."""
    return [job for job in jobs if job.todo()]


def find_slots(gpus: Sequence[str] | None, gpus_per_run: int = 1, jobs: int | None = None) -> list[list[str]]:
    """GPUs of each run that goes on at a time; empty lists where there are none.

    Args:
        gpus: GPUs to use; None takes all that are visible.
        gpus_per_run: GPUs of each run.
        jobs: Runs at a time without a GPU; None: one.

    Raises:
        ValueError: The options do not fit this machine.
    """
    gpus = list(gpus or visible_gpus())
    if not gpus:
        if gpus_per_run > 1:
            raise ValueError('--gpus-per-run needs GPUs, and none is visible')
        return [[]] * (jobs or 1)
    if jobs is not None:
        raise ValueError('--jobs is for machines without a GPU; here --gpus says how many runs go on at a time')
    if len(gpus) % gpus_per_run:
        raise ValueError(f'{len(gpus)} GPUs cannot be shared out to runs of {gpus_per_run} each')
    return [gpus[i:i + gpus_per_run] for i in range(0, len(gpus), gpus_per_run)]


def visible_gpus() -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES has them, in the order of PyTorch's indices."""
    count = torch.cuda.device_count()
    names = os.environ.get('CUDA_VISIBLE_DEVICES', ','.join(map(str, range(count))))
    return [name.strip() for name in names.split(',')][:count]


def hardware(slot: Sequence[str]) -> str:
    """Number and kind of the processors of a slot."""
    if not slot:
        return f'{os.cpu_count()} CPU cores'
    gpus = visible_gpus()
    known = slot[0] in gpus
    return f'{len(slot)} x {torch.cuda.get_device_name(gpus.index(slot[0]))}' if known else f'GPUs {", ".join(slot)}'
