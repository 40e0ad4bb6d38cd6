# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Files of fitted scores, and whether they are a model's."""
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgcda.utils.checkpoints import checkpoint_bytes
from mgcda.utils.files import write_file

FORMAT = 'mgcda fitted score 1'
KEYS = dict(format=str, type=str, settings=dict, classes=list, config=str, fingerprint=str, num_images=int, state=dict)
#: Weights that predictions of the segmentor do not depend on, or that are never saved.
LEFT_OUT = re.compile(r'(^|\.)(train_only|frozen)\.')


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of the weights that inference needs, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if LEFT_OUT.search(name) or not isinstance(value, Tensor):
            continue
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def class_names(model: nn.Module, classes: Sequence[str] | None = None) -> list:
    """Names of the classes of a segmentor: ``classes``, or their numbers where it is not known what they are called."""
    return [str(name) for name in classes or range(model.num_classes)]


def write_fitted(path: str, score: Any, model: nn.Module, classes: Sequence[str], config: str, num_images: int) -> None:
    """Write the parameters of a score that was fitted on ``num_images`` images with the outputs of ``model``."""
    content = dict(
        format=FORMAT,
        type=type(score).__name__,
        settings=score.settings,
        classes=list(classes),
        config=config,
        fingerprint=fingerprint(model),
        num_images=num_images,
        state=score.parameters())
    write_file(path, checkpoint_bytes(content))


def read_fitted(path: str) -> dict[str, Any]:
    """Content of a file of :func:`write_fitted`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is another file, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'fitted score {path} does not exist: {how_to_fit(path)}')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises errors of many types for files of other kinds
        reason = (str(error).strip().splitlines() or [''])[0]
        raise ValueError(f'{path} is no fitted score, or is damaged ({type(error).__name__}: {reason})') from None
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise ValueError(f'{path} is no fitted score of this version: {how_to_fit(path)}')
    wrong = [key for key, kind in KEYS.items() if not isinstance(content.get(key), kind)]
    if wrong or not all(isinstance(value, Tensor) for value in content['state'].values()):
        raise ValueError(f'{path} is damaged: {wrong or ["state"]} are missing or of another type')
    return content


def check_fit(path: str, content: dict[str, Any], score: Any, model: nn.Module) -> None:
    """Compare what a file was fitted with and on with a score and a model.

    Raises:
        ValueError: If they are not the same; it says what the file belongs to.
    """
    owner = f'{path} was fitted by {content["config"]}'
    if content['type'] != type(score).__name__:
        raise ValueError(f'{path} holds a fitted {content["type"]}, the score is {type(score).__name__}')
    missing = sorted(set(score.parameter_names) - set(content['state']))
    if missing:
        raise ValueError(f'{path} is damaged: its state lacks {missing}')
    for key in score.fit_settings:
        theirs, own = content['settings'].get(key), score.settings[key]
        if json.dumps(theirs) != json.dumps(own):
            raise ValueError(f'{owner} with {key}={theirs!r}, the score has {key}={own!r}: {how_to_fit(path)}')
    known = (getattr(model, 'dataset_meta', None) or {}).get('classes')
    names = class_names(model, known) if known and len(known) == model.num_classes else None
    if len(content['classes']) != model.num_classes or names not in (None, content['classes']):
        raise ValueError(f'{owner} for {len(content["classes"])} classes {content["classes"]}, the model has '
                         f'{model.num_classes}{f": {names}" if names else ""}: {how_to_fit(path)}')
    own = fingerprint(model)
    if content['fingerprint'] != own:
        raise ValueError(f'{owner} with other weights than those of this model (SHA-256 {content["fingerprint"][:12]}, '
                         f'not {own[:12]}): test the checkpoint that it was fitted with, or fit anew: '
                         f'{how_to_fit(path)}')


def how_to_fit(path: str) -> str:
    """The command that writes ``path``."""
    return f'python tools/fit_scores.py CONFIG CHECKPOINT --out {path}'
