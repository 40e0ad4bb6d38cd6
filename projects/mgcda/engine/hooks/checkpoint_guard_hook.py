# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS

from mgcda.utils.checkpoints import ALWAYS_FORGIVEN, TEST_FORGIVEN, check_overlap, load_weights


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Refuse a checkpoint that does not fit the model, where mmengine only warns, before the first batch.

    Testing and resuming need a checkpoint of the same architecture: any missing or unexpected key is an error. What
    starts a new training (``load_from``) may fit in part, but not in nothing. Keys of frozen networks, those that the
    model forgives itself and, for testing, those of ``train_only`` and ``discriminator`` do not count. On resuming it
    also drops a ``config`` entry of the metadata, which mmengine would run as Python code.

    Raises:
        ValueError: Naming both architectures and the keys, or what a checkpoint lacks that is to be resumed from.
    """

    # Before any hook that takes something out of the checkpoint.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        resuming = runner._resume
        if resuming:
            check_resumable(checkpoint)
            checkpoint['meta'].pop('config', None)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if isinstance(model, BaseTTAModel):
            model = model.module
        if resuming:
            load_weights(model, checkpoint, ALWAYS_FORGIVEN)
        elif isinstance(runner._train_loop, BaseLoop):
            check_overlap(model, checkpoint)
        else:
            load_weights(model, checkpoint, TEST_FORGIVEN)


def check_resumable(checkpoint: dict) -> None:
    """Raise ValueError where a checkpoint lacks what a training resumes from."""
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    missing = [name for name in ('epoch', 'iter') if name not in meta]
    missing += [name for name in ('state_dict', 'optimizer', 'message_hub') if name not in checkpoint]
    if missing:
        raise ValueError(
            f'the checkpoint cannot be resumed from, it has no {", ".join(missing)}: it was made for inference. '
            'To start a new training from its weights, set load_from without resume')
