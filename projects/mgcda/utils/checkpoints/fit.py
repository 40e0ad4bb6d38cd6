# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Loading weights that must fit the model."""
import ast
import re
from collections.abc import Iterable
from re import Pattern

from torch import Tensor, nn

from .reading import shorten, weights_of

# Keys that need not match: frozen networks, counters of batch normalisation; for testing also helpers of training.
ALWAYS_FORGIVEN = re.compile(r'(^|\.)frozen\.|num_batches_tracked$')
TEST_FORGIVEN = re.compile(r'(^|\.)(frozen|train_only|discriminators?)\.|num_batches_tracked$')


def load_weights(model: nn.Module,
                 checkpoint: dict,
                 forgiven: Pattern[str],
                 name: str = 'the checkpoint',
                 prefix: str = '',
                 surplus: bool = False) -> None:
    """Load the weights of a checkpoint into a model, which they must fit.

    Args:
        model: The model.
        checkpoint: As :func:`read_checkpoint` returns it.
        forgiven: Pattern of the keys that may be missing or left over.
        name: What errors call the checkpoint.
        prefix: What the keys of the model begin with in the checkpoint.
        surplus: Whether the checkpoint may hold weights that the model does not have.

    Raises:
        ValueError: The checkpoint has no weights, or they do not fit.
    """
    own = model.state_dict()
    weights = {
        key.removeprefix(prefix): value
        for key, value in weights_of(checkpoint, name).items() if key.startswith(prefix)
    }
    reshaped = [
        f'{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}' for key, value in weights.items()
        if key in own and isinstance(own[key], Tensor) and value.shape != own[key].shape
    ]
    missing: Iterable[str] = set(own) - set(weights)
    unexpected: Iterable[str] = set(weights) - set(own)
    if not reshaped:  # a real load lets the hooks of the model forgive keys; torch would stop at another shape
        missing, unexpected = model.load_state_dict(weights, strict=False)
    missing, unexpected = ([key for key in keys if not forgiven.search(key)] for keys in (missing, unexpected))
    if missing or reshaped or (unexpected and not surplus):
        raise ValueError(f'{name} does not fit the model: ' +
                         describe(model, checkpoint, missing, unexpected, reshaped))


def check_overlap(model: nn.Module, checkpoint: dict) -> None:
    """Raise ValueError where not one weight of a checkpoint fits a model."""
    own, weights = model.state_dict(), weights_of(checkpoint)
    if not any(key in own and value.shape == own[key].shape for key, value in weights.items()):
        raise ValueError('not one weight of the checkpoint fits the model: ' +
                         describe(model, checkpoint, own, weights, []))


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
    names = [kind.value for part in parts if isinstance(kind := part.get('type'), ast.Constant)]
    return ' with '.join(map(str, names)) or 'an unknown architecture'
