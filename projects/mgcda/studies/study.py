# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Study files: their trainings and tests as jobs that know whether they are done."""
import argparse
import hashlib
import json
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, DictAction
from mmengine.logging import print_log

from mgcda.engine.latest_checkpoint import find_latest_checkpoint
from mgcda.utils import configs
from mgcda.utils.files import remove_temporary_files, write_file
from mgcda.utils.folder_lock import FolderLock, NoLocks

STATE = 'state.json'  # file of a job that notes what is done
STUDY_KEYS = {'work_dir', 'steps', 'rows', 'seeds', 'data_sets', 'metrics', 'keep_scores'}
STEP_KEYS = {'name', 'train', 'command'}
ROW_KEYS = {'name', 'config', 'checkpoint', 'seeds', 'options'}
#: What decides what a training or a test makes; the rest of a config is names, logs and pictures, and validation.
DECISIVE = dict(
    train=('model', 'load_from', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr',
           'randomness', 'default_hooks', 'custom_hooks', 'sync_bn'),
    test=('model', 'test_dataloader', 'test_cfg', 'test_evaluator'),
    command=('model', 'train_dataloader', 'fit_dataloader'))
#: What decides, too, where the schedule, the best checkpoint or a hook follows the validation.
VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')
FOLLOWS_VALIDATION = re.compile(r"'(monitor|save_best)': (?!None)")
#: Types that were renamed, by their former names: a run that was finished under those stays finished.
FORMER_NAMES = dict(AnomalyCrossEntropyMetric='AnomalyLoss')
HARMLESS_HOOKS = ('timer', 'logger', 'visualization')
#: What a row tests: the last checkpoint of its training, or the best by the config's own `save_best`.
TRAINED = ('last', 'best')


class Stage(NamedTuple):
    """One command of a job: the arguments of a Python tool, and the config whose content decides what it makes."""
    name: str
    command: tuple[str, ...]
    config: Config | None = None

    def fingerprint(self) -> dict:
        """What a finished stage is compared with, to tell whether it was another one."""
        content = {}
        if self.config is not None:
            config = self.config.to_dict()
            content = {key: value for key, value in config.items() if key in DECISIVE[self.name]}
            if self.name == 'command' and content.get('model', {}).get('frozen'):
                content['model'] = content['model']['frozen']  # what a tool runs of such a model
            if self.name == 'train' and FOLLOWS_VALIDATION.search(repr(content)):
                content.update({key: config.get(key) for key in VALIDATION})
            for hook in HARMLESS_HOOKS:
                content.get('default_hooks', {}).pop(hook, None)
        text = repr(content)
        for name, former in FORMER_NAMES.items():
            text = text.replace(repr(name), repr(former))
        return dict(command=list(self.command), config=hashlib.sha256(text.encode()).hexdigest()[:16])


class Job(NamedTuple):
    """Commands that run one after another in one folder, where `state.json` notes those that are done."""
    name: str
    folder: Path
    stages: tuple[Stage, ...]

    def todo(self) -> list[Stage]:
        """The stages that are not done yet.

        Raises:
            ValueError: A finished stage had another command, or its config has changed since; `state.json` is damaged.
        """
        state = self._state()
        for stage in self.stages:
            done = state.get(stage.name)
            if done is None:
                continue
            now = stage.fingerprint()
            if {key: done.get(key) for key in now} != now:
                what = 'its config has changed' if done.get('command') == now['command'] else 'its command is another'
                raise ValueError(f'{self.folder} holds the {stage.name} of another {self.name!r}: {what} since. Remove '
                                 f'or rename {self.folder} and whatever was made with it to run it again, or give the '
                                 'study another --work-dir')
        return [stage for stage in self.stages if stage.name not in state]

    def finish(self, stage: Stage, **facts: Any) -> None:
        """Note that a stage is done."""
        state = dict(self._state(), **{stage.name: dict(stage.fingerprint(), **facts)})
        write_file(self.folder / STATE, (json.dumps(state, indent=1) + '\n').encode())

    def seconds(self) -> float:
        """What the finished stages took."""
        return sum(entry.get('seconds', 0) for entry in self._state().values())

    def _state(self) -> dict[str, dict]:
        path = self.folder / STATE
        try:
            return json.loads(path.read_text()) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f'{path} is damaged: {error}') from error

    @contextmanager
    def claimed(self) -> Iterator[tuple[int, ...]]:
        """Hold the job, so that no other process runs it.

        What is given is the descriptor of the lock: a child that inherits it holds the job, too, as long as it lives.
        There is none where the file system has no locks, which is warned of.

        Raises:
            FolderInUse: Another process runs it.
        """
        with ExitStack() as stack:
            held: tuple[int, ...] = ()
            try:
                held = (stack.enter_context(FolderLock(self.folder / '.lock', 'another study')).fileno(), )
            except NoLocks as error:
                print_log(f'[{self.name}] {error}: nothing would stop a second study')
            remove_temporary_files(self.folder, re.escape(STATE))
            yield held


class Row(NamedTuple):
    """A row of the table: its name and a job for each seed, or one where nothing is trained."""
    name: str
    jobs: tuple[Job, ...]


class Study(NamedTuple):
    """``steps``: groups of jobs, one group after another, before any row. ``columns``: 'data_sets' and 'metrics'."""
    path: str
    work_dir: Path
    steps: list[list[Job]]
    rows: list[Row]
    columns: dict[str, list[str]]

    @property
    def name(self) -> str:
        """Name of the study file without its extension."""
        return Path(self.path).stem

    @property
    def jobs(self) -> list[Job]:
        """Those of the steps, then those of the rows."""
        return [job for group in self.steps for job in group] + self.row_jobs()

    def row_jobs(self, only: Sequence[str] | None = None) -> list[Job]:
        """The jobs of the rows, or of those named ``only``.

        Raises:
            ValueError: The study has no such row.
        """
        names = [row.name for row in self.rows]
        unknown = sorted(set(only or ()) - set(names))
        if unknown:
            raise ValueError(f'the study has no row {", ".join(unknown)}, but {", ".join(names)}')
        return [job for row in self.rows if only is None or row.name in only for job in row.jobs]


def read_study(path: str,
               checkout: str | Path,
               seeds: Sequence[int] | None = None,
               work_dir: str | None = None) -> Study:
    """Read a study file.

    Args:
        path: Text config with the keys ``work_dir``; ``steps``, a list of steps or of lists of steps that may run side
            by side, each a dict of ``name`` and ``train`` (a config) or ``command`` (a Python tool and its arguments);
            ``rows``, a list of dicts of ``name``, ``config`` and, if wanted, ``seeds``, ``options`` (entries that
            replace those of the config: numbers, words, and lists of such) and ``checkpoint``: 'last' (the default),
            'best', or a file, of which nothing is trained; ``seeds`` of rows that name none; ``data_sets`` and
            ``metrics``, the columns of the table; ``keep_scores``, whether the tests leave score maps. Keys that begin
            on '_' are free.
        checkout: Root of the checkout whose ``tools/train.py`` and ``tools/test.py`` are to run.
        seeds: Replace those of the study, for all rows.
        work_dir: Replaces that of the study for the rows; steps stay where the configs look for them.

    Raises:
        FileNotFoundError: No such study, or no such config.
        ValueError: Something is missing, unknown, or there twice; the message names file and key.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'study {path} does not exist')
    content = {key: value for key, value in Config.fromfile(path).to_dict().items() if not key.startswith('_')}
    check_keys(content, STUDY_KEYS, ('work_dir', ), path)
    root = Path(content['work_dir'])
    groups = [group if isinstance(group, (list, tuple)) else [group] for group in content.get('steps', [])]
    steps = [[read_step(step, root, checkout, f'{path}: steps') for step in group] for group in groups]
    rows = []
    for entry in content.get('rows', []):
        check_keys(entry, ROW_KEYS, ('name', 'config'), f'{path}: rows')
        chosen = seeds or entry.get('seeds') or content.get('seeds') or [0]
        folder = Path(work_dir or root)
        rows.append(read_row(entry, chosen, folder, checkout, bool(content.get('keep_scores')), f'{path}: rows'))
    if not rows and not steps:
        raise ValueError(f'{path} has neither steps nor rows')
    columns = {key: list(content.get(key) or ()) for key in ('data_sets', 'metrics')}
    study = Study(path, Path(work_dir or root), steps, rows, columns)
    for what in ('name', 'folder'):
        twice = [value for value, count in Counter(str(getattr(job, what)) for job in study.jobs).items() if count > 1]
        if twice:
            raise ValueError(f'{path}: several steps or rows have the {what} {", ".join(twice)}')
    return study


def read_step(entry: dict, root: Path, checkout: str | Path, where: str) -> Job:
    """The job of a step; ``root`` holds its folder, ``where`` is for errors."""
    check_keys(entry, STEP_KEYS, ('name', ), where)
    if ('train' in entry) == ('command' in entry):
        raise ValueError(f'{where}: {entry["name"]!r} needs either train, a config, or command, a tool with arguments')
    if 'train' in entry:
        folder = root / Path(entry['train']).stem
        return Job(entry['name'], folder, (train_stage(checkout, entry['train'], folder, where), ))
    command = tuple(shlex.split(entry['command']))
    if not os.path.isfile(command[0]):
        raise FileNotFoundError(f'{where}: {entry["name"]!r} runs {command[0]}, which does not exist')
    config = next((read_config(word, None, where) for word in command[1:] if word.endswith('.py')), None)
    return Job(entry['name'], root / 'steps' / slug(entry['name']), (Stage('command', command, config), ))


def read_row(entry: dict, seeds: Sequence[int], root: Path, checkout: str | Path, keep_scores: bool, where: str) -> Row:
    """The row with a job for each seed; ``root`` holds their folders, ``where`` is for errors."""
    checkpoint, options = entry.get('checkpoint', 'last'), entry.get('options') or {}
    name, folder = entry['name'], root / slug(entry['name'])
    check_options(options, f'{where}: {name!r}')
    if checkpoint not in TRAINED:
        test = test_stage(checkout, entry['config'], checkpoint, folder, keep_scores, options, where)
        return Row(name, (Job(name, folder, (test, )), ))
    jobs = []
    for seed in seeds:
        place = folder / f'seed{seed}'
        train = train_stage(checkout, entry['config'], place, where, {**options, 'randomness.seed': seed})
        test = test_stage(checkout, entry['config'], f'{checkpoint} of {place}', place / 'test', keep_scores, options,
                          where)
        jobs.append(Job(f'{name} seed {seed}', place, (train, test)))
    return Row(name, tuple(jobs))


def train_stage(checkout: str | Path, config: str, folder: Path, where: str, options: dict | None = None) -> Stage:
    """A training, which resumes where it was interrupted."""
    command = (tool(checkout, 'train.py'), config, '--work-dir', str(folder), '--resume', *option_words(options))
    return Stage('train', command, read_config(config, options, where))


def test_stage(checkout: str | Path, config: str, checkpoint: str, folder: Path, keep_scores: bool, options: dict,
               where: str) -> Stage:
    """A test that leaves `results.json`, and the score maps if wanted."""
    words = option_words({} if keep_scores else {'test_evaluator.score_dtype': None}, options)
    command = (tool(checkout, 'test.py'), config, checkpoint, '--work-dir', str(folder), '--out', str(folder), *words)
    return Stage('test', command, read_config(config, options, where))


def tool(checkout: str | Path, name: str) -> str:
    """Path of one of the tools from where the study is run."""
    return os.path.relpath(os.path.join(checkout, 'tools', name))


def read_config(path: str, options: dict | None, where: str) -> Config:
    """The config as the tools read it, with the place in the study in its errors."""
    try:
        return configs.read_config(path, options)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f'{where}: {error}') from error


def option_words(*options: dict | None) -> tuple[str, ...]:
    """The options as words of a command line."""
    words = tuple(f'{key}={value}' for part in options for key, value in (part or {}).items())
    return ('--cfg-options', *words) if words else ()


def check_options(options: dict, where: str) -> None:
    """Refuse options that the command line of the tools would change, or take for something else."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    for key, value in options.items():
        try:
            read = parser.parse_args(option_words({key: value})).cfg_options[key]
        except AssertionError:  # brackets that do not match
            read = None
        if read != value:
            raise ValueError(f'{where} has the option {key} = {value!r}, which a command line cannot hold: write a '
                             'config that has it, on the base of the other')
    if 'load_from' in options:
        raise ValueError(f'{where} has the option load_from, which --resume would go on from: write a config '
                         'that has it, on the base of the other')


def check_keys(entry: Any, known: set, required: Sequence[str], where: str) -> None:
    """Refuse an entry that is no dict, has unknown keys or lacks required ones."""
    if not isinstance(entry, dict):
        raise ValueError(f'{where} must be dicts, got {entry!r}')
    unknown = sorted(set(entry) - known)
    if unknown:
        raise ValueError(f'{where} has the unknown key {", ".join(unknown)}; known are {", ".join(sorted(known))}')
    missing = [key for key in required if not entry.get(key)]
    if missing:
        raise ValueError(f'{where} lacks {", ".join(missing)} in {entry!r}')


def slug(name: str) -> str:
    """The name as that of a folder."""
    return re.sub(r'[^a-z0-9.]+', '-', name.lower()).strip('-')


def find_checkpoint(which: str, out_dir: str | None = None) -> str:
    """The file that ``test_stage`` names as 'last of FOLDER' or 'best of FOLDER'; any other name is a file already.

    ``out_dir`` is that of :func:`~mgcda.engine.latest_checkpoint.find_latest_checkpoint`.

    Raises:
        FileNotFoundError: The folder has no such checkpoint.
        ValueError: It has several best ones, or none that is whole.
    """
    kind, separator, folder = which.partition(' of ')
    if not separator or kind not in TRAINED:
        return which
    if kind == 'last':
        latest = find_latest_checkpoint(folder, out_dir, resumable=False)
        if latest is None:
            raise FileNotFoundError(f'{folder} has no checkpoint: its training left none')
        return str(latest)
    found = sorted(map(str, Path(folder).glob('best_*.pth')))
    if not found:
        raise FileNotFoundError(f'{folder} has no best_*.pth: the config needs default_hooks.checkpoint.save_best')
    if len(found) > 1:
        raise ValueError(f'{folder} has several best checkpoints: {", ".join(found)}')
    return found[0]


def clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds; from a day on in hours."""
    return time.strftime('%H:%M:%S', time.gmtime(seconds)) if seconds < 86400 else f'{seconds / 3600:.0f} h'
