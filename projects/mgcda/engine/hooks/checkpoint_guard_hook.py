# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import ast
import re
from collections.abc import Iterable
from re import Pattern

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn

# Keys that need not match: frozen networks, counters of batch normalisation; for testing also helpers of training.
ALWAYS_FORGIVEN = re.compile(r'(^|\.)frozen\.|num_batches_tracked$')
TEST_FORGIVEN = re.compile(r'(^|\.)(frozen|train_only|discriminator)\.|num_batches_tracked$')
SHOWN_KEYS = 6


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
            check_fit(model, checkpoint, ALWAYS_FORGIVEN)
        elif isinstance(runner._train_loop, BaseLoop):
            check_overlap(model, checkpoint)
        else:
            check_fit(model, checkpoint, TEST_FORGIVEN)


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


def check_overlap(model: nn.Module, checkpoint: dict) -> None:
    """Raise ValueError where not one weight of a checkpoint fits a model."""
    own, weights = model.state_dict(), weights_of(checkpoint)
    if not any(name in own and value.shape == own[name].shape for name, value in weights.items()):
        raise ValueError('not one weight of the checkpoint fits the model: ' +
                         describe(model, checkpoint, own, weights, []))


def check_fit(model: nn.Module, checkpoint: dict, forgiven: Pattern[str]) -> None:
    """Raise ValueError where the weights of a checkpoint do not fit a model, but for the keys that are forgiven."""
    own, weights = model.state_dict(), weights_of(checkpoint)
    reshaped = [
        f'{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}' for name, value in weights.items()
        if name in own and isinstance(own[name], Tensor) and value.shape != own[name].shape
    ]
    missing: Iterable[str] = set(own) - set(weights)
    unexpected: Iterable[str] = set(weights) - set(own)
    if not reshaped:  # a real load lets the hooks of the model forgive keys; torch would stop at another shape
        missing, unexpected = model.load_state_dict(weights, strict=False)
    missing, unexpected = ([name for name in names if not forgiven.search(name)] for names in (missing, unexpected))
    if missing or unexpected or reshaped:
        raise ValueError('the checkpoint does not fit the model: ' +
                         describe(model, checkpoint, missing, unexpected, reshaped))


def weights_of(checkpoint: dict) -> dict:
    """The state dict of a checkpoint, without the prefix of a parallel wrapper."""
    state_dict = checkpoint.get('state_dict', checkpoint)
    weights = {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f'the checkpoint holds no weights; its entries are {shorten(checkpoint)}')
    return {re.sub(r'^module\.', '', name): value for name, value in weights.items()}


def describe(model: nn.Module, checkpoint: dict, missing: Iterable[str], unexpected: Iterable[str],
             reshaped: list[str]) -> str:
    """How a checkpoint differs from the model that it is loaded into."""
    parts = [f'the config describes {type(model).__name__}, the checkpoint is of {architecture_of(checkpoint)}']
    parts += [
        f'{len(names)} {label}: {shorten(names)}'
        for label, names in (('missing from the checkpoint', sorted(missing)), ('not in the model', sorted(unexpected)),
                             ('of another shape', reshaped)) if names
    ]
    return '; '.join(parts)


def architecture_of(checkpoint: dict) -> str:
    """The model type and backbone that a checkpoint's config names. Read as text: it is never run."""
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    try:
        statements = ast.parse(text).body if isinstance(text, str) else []
    except SyntaxError:
        statements = []
    models = [
        statement.value for statement in statements
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id == 'model' and isinstance(statement.value, ast.Call)
    ]
    if not models:
        return 'an unknown architecture'
    entries = {keyword.arg: keyword.value for keyword in models[-1].keywords}
    backbone = entries.get('backbone')
    parts = [entries]
    if isinstance(backbone, ast.Call):
        parts.append({keyword.arg: keyword.value for keyword in backbone.keywords})
    names = [part['type'].value for part in parts if isinstance(part.get('type'), ast.Constant)]
    return ' with '.join(map(str, names)) or 'an unknown architecture'


def shorten(names: Iterable[str]) -> str:
    """The first ``SHOWN_KEYS`` names, joined by commas."""
    names = list(names)
    return ', '.join(map(str, names[:SHOWN_KEYS])) + (', ...' if len(names) > SHOWN_KEYS else '')
