# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import hashlib
import os.path as osp
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from mgcda.utils.checkpoints import checkpoint_bytes, read_checkpoint
from mgcda.utils.files import replacing, write_file

from ..latest_checkpoint import POINTER, find_latest_checkpoint
from ..training_lock import hold_training_folder, release_training_folder


@HOOKS.register_module(name='CheckpointHook')
class DurableCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, under its name, with no moment at which a kill costs a checkpoint.

    - A file is written under a temporary name in its folder, synced and renamed; then `last_checkpoint` is; only then
      are those removed that are no longer kept, best ones, too. A write that fails, as where the disk is full, leaves
      all as it was. Object stores are written to directly.
    - A training holds its ``work_dir``: a second one is refused. What a killed one left half-written is removed.
    - A run that is to resume from its ``work_dir`` takes the newest whole checkpoint
      (:func:`~mgcda.engine.latest_checkpoint.find_latest_checkpoint`). Where it has ``save_best``, it makes up for the
      validation that the checkpoint was written before.
    - ``published_keys``: the hash in the name is that of the file.

    Takes the arguments of mmengine's CheckpointHook. The stock one is ``mmengine.CheckpointHook``.

    Raises:
        FolderInUse: Another training holds the folder; it says which and since when.
        ValueError: There are checkpoints, but none that is whole and can be resumed from.
    """

    def before_run(self, runner: Runner) -> None:
        """Hold the folder, and find what to resume from, if that is asked for."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):  # still a config: the run only tests
            return
        # All ranks fail together, or the others would wait for the first.
        outcome: list = [None, None]
        if is_main_process():
            try:
                hold_training_folder(runner.work_dir)
                if runner._resume and runner._load_from is None:
                    latest = find_latest_checkpoint(runner.work_dir, self.out_dir)
                    outcome[1] = None if latest is None else str(latest)
            except (OSError, ValueError) as error:
                outcome[0] = error
        broadcast_object_list(outcome)
        if outcome[0] is not None:
            raise outcome[0]
        if runner._resume and runner._load_from is None:
            runner._resume, runner._load_from = outcome[1] is not None, outcome[1]

    def before_train(self, runner: Runner) -> None:
        """Go on with the bookkeeping of the run that is resumed."""
        super().before_train(runner)
        if self._is_local() and is_main_process():
            hold_training_folder(self.out_dir)
        if runner._resume and self._is_own(runner._load_from):
            info = runner.message_hub.runtime_info
            self.last_ckpt = runner._load_from
            for key in [key for key in info if key == 'best_ckpt' or key.startswith('best_ckpt_')]:
                self._find_best(runner, key)
            self._remove(runner, info.get('outdated_ckpts', ()))
        if self._misses_validation(runner):
            runner.logger.info('Validates what was saved before its validation')
            self._make_up_validation(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Save what is better than all before."""
        runner.message_hub.update_info('iter_validated', runner.iter)
        super().after_val_epoch(runner, metrics)

    def after_run(self, runner: Runner) -> None:
        """Give up the folder."""
        for folder in {runner.work_dir, self.out_dir or runner.work_dir}:
            release_training_folder(folder)

    # Where things are

    def _is_local(self) -> bool:
        return isinstance(getattr(self.file_backend, 'client', self.file_backend), LocalBackend)

    def _is_own(self, path: str | None) -> bool:
        """Whether a file lies in the folder that this run writes to."""
        return path is not None and self._is_local() and osp.realpath(osp.dirname(path)) == osp.realpath(self.out_dir)

    def _find_best(self, runner: Runner, key: str) -> None:
        """Have the best checkpoint of a resumed run where it lies now: the folder may have been moved."""
        path = runner.message_hub.get_info(key)
        moved = self.file_backend.join_path(self.out_dir, osp.basename(path)) if path else None
        if moved is None or not osp.isfile(moved):
            return
        runner.message_hub.update_info(key, moved)
        if key == 'best_ckpt':
            self.best_ckpt_path = moved
        elif hasattr(self, 'best_ckpt_path_dict'):
            self.best_ckpt_path_dict[key.removeprefix('best_ckpt_')] = moved

    def _misses_validation(self, runner: Runner) -> bool:
        """Whether a resumed run that keeps the best lacks the validation of the step that it resumes from."""
        loop = runner.train_loop
        if not (self.save_best and runner._resume and runner.iter and runner.val_loop is not None):
            return False
        if runner.message_hub.runtime_info.get('iter_validated') == runner.iter:
            return False
        if isinstance(loop, EpochBasedTrainLoop):
            if runner.iter != runner.epoch * len(loop.dataloader):
                return False
            step, end = runner.epoch, runner.max_epochs
        else:
            step, end = runner.iter, runner.max_iters
        return step >= loop.val_begin and (step % loop.val_interval == 0 or step == end)

    def _make_up_validation(self, runner: Runner) -> None:
        """Validate, and note it in the checkpoint, or each further start would validate it again."""
        self._saved = False
        runner.val_loop.run()
        step = runner.epoch if self.by_epoch else runner.iter
        name = self.filename_tmpl.format(step)
        if not self._saved and self._is_own(runner._load_from) and osp.basename(runner._load_from) == name:
            outdated = runner.message_hub.runtime_info.get('outdated_ckpts', ())
            self._save(runner, step, dict(epoch=runner.epoch, iter=runner.iter), outdated)

    # Writing

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._save(runner, step, meta)

    def _save(self, runner: Runner, step: int, meta: dict, outdated: Sequence[str] = ()) -> None:
        """Write the checkpoint of a step, then remove what is outdated, by it or as ``outdated`` says (file names)."""
        self._saved = True
        name, outdated = self.filename_tmpl.format(step), list(outdated)
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids[0]))
            self.keep_ckpt_ids.append(step)  # drops the first of those that are too many
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        # A run that is killed before they are removed does so when it is resumed.
        runner.message_hub.update_info('outdated_ckpts', outdated)
        self._write(
            runner,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args)
        if is_main_process():
            write_file(Path(runner.work_dir) / POINTER, self.last_ckpt.encode(), sync=True)
        self._remove(runner, outdated)

    @master_only
    def _write(self, runner: Runner, name: str, **options: Any) -> None:
        backend = dict(file_client_args=self.file_client_args, backend_args=self.backend_args)
        if not self._is_local():
            runner.save_checkpoint(self.out_dir, name, **backend, **options)
            return
        Path(self.out_dir).mkdir(parents=True, exist_ok=True)
        with replacing(Path(self.out_dir) / name, sync=True) as temporary:
            runner.save_checkpoint(self.out_dir, temporary.name, **backend, **options)

    @master_only
    def _remove(self, runner: Runner, names: Iterable[str]) -> None:
        for name in names:
            path = self.file_backend.join_path(self.out_dir, name)
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
                runner.logger.debug(f'Removed {path}')

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        step, unit = (runner.epoch, 'epoch') if self.by_epoch else (runner.iter, 'iter')
        meta, hub, outdated, improved = dict(epoch=runner.epoch, iter=runner.iter), runner.message_hub, [], False
        for key, rule in zip(self.key_indicators, self.rules):
            suffix = '' if len(self.key_indicators) == 1 else f'_{key}'
            value, best = metrics[key], hub.runtime_info.get(f'best_score{suffix}', self.init_value_map[rule])
            if value is None or not self.is_better_than[key](value, best):
                continue
            improved = True
            name = f'best_{key}_{self.filename_tmpl.format(step)}'.replace('/', '_')
            path = self.file_backend.join_path(self.out_dir, name)
            last = self.best_ckpt_path_dict.get(key) if suffix else self.best_ckpt_path
            if last and osp.basename(last) != name:
                outdated.append(osp.basename(last))
            hub.update_info(f'best_score{suffix}', value)
            hub.update_info(f'best_ckpt{suffix}', path)
            if suffix:
                self.best_ckpt_path_dict[key] = path
            else:
                self.best_ckpt_path = path
            self._write(runner, name, save_optimizer=False, save_param_scheduler=False, meta=dict(meta), by_epoch=False)
            runner.logger.info(f'The best checkpoint with {value:0.4f} {key} at {step} {unit} is saved to {name}.')
        if not improved:
            return
        if self.last_ckpt is None:
            self._remove(runner, outdated)
        else:  # once more, with which one is the best
            self._save(runner, step, meta, outdated)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        checkpoint = read_checkpoint(ckpt_path)
        content = checkpoint_bytes({key: value for key, value in checkpoint.items() if key in self.published_keys})
        final = f'{osp.splitext(ckpt_path)[0]}-{hashlib.sha256(content).hexdigest()[:8]}.pth'
        write_file(final, content, sync=True)
        runner.logger.info(f'The checkpoint ({ckpt_path}) is published to {final}.')
