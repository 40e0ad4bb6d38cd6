# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The one way to a model with weights."""
import os

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.utils import ConfigType
from torch import nn

from mgcda.utils.checkpoints import TEST_FORGIVEN, load_checkpoint, load_weights
from mgcda.utils.configs import read_config


def build_model(config: str | os.PathLike | Config,
                checkpoint: str | None = None,
                device: str | torch.device = 'cpu',
                child: str | None = None,
                surplus: bool = False) -> nn.Module:
    """Build the model of a config for inference, with the weights of a checkpoint, which must fit.

    Args:
        config: Config file or Config.
        checkpoint: File or address of the weights, of a training or published; None leaves random ones, but for
            networks that the config names with theirs.
        device: Any torch device.
        child: Take this child of the model only, with its part of the checkpoint.
        surplus: Whether the checkpoint may hold weights that the model does not have.

    Returns:
        nn.Module: In evaluation mode, without what only training needs. ``dataset_meta`` is that of the checkpoint
        (classes, palette), or empty.

    Raises:
        FileNotFoundError: No such config or checkpoint.
        ValueError: The config has no such model; the checkpoint is none, is damaged, could run code or does not fit.
    """
    cfg = read_config(config)
    model_cfg = cfg.get('model')
    if child is not None:
        model_cfg = (model_cfg or {}).get(child)
    if model_cfg is None:
        raise ValueError(f'{cfg.filename} has no {"model" if child is None else f"model.{child}"}')
    loaded = None if checkpoint is None else load_checkpoint(checkpoint)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = MODELS.build(model_cfg)
    if hasattr(model, 'switch_to_deploy'):
        model.switch_to_deploy()
    if checkpoint is not None:
        load_weights(model, loaded, TEST_FORGIVEN, checkpoint, '' if child is None else f'{child}.', surplus)
    meta = loaded.get('meta') if isinstance(loaded, dict) else None
    model.dataset_meta = (meta or {}).get('dataset_meta') or {}
    return model.to(device).eval()


def load_network(cfg: ConfigType, name: str, child: str | None = None) -> nn.Module:
    """Build the network that an entry of a config names, as :func:`build_model` does.

    Args:
        cfg: ``config``, a config file, and ``checkpoint``, a file or an address, or None for random weights. The
            checkpoint may hold more than the network.
        name: What errors call the entry: 'frozen.segmenter'.
        child: Take this child of the model only. None takes a segmentor whole.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Other keys, a config of another kind of model, a checkpoint that is none or does not fit.
    """
    if set(cfg) != {'config', 'checkpoint'}:
        raise ValueError(f"{name} needs 'config' and 'checkpoint' (None for random weights), got {sorted(cfg)}")
    path = cfg['config']
    try:
        network = build_model(path, cfg['checkpoint'], child=child, surplus=True)
    except FileNotFoundError as error:
        if not os.path.isfile(path):
            raise FileNotFoundError(f'{name}: {error}') from error
        raise FileNotFoundError(f'{name}: {error}; the config {path} says how to train or download it') from error
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error
    if child is None and not hasattr(network, 'inference'):
        raise ValueError(f'{name}: {path} is not a segmentor of MMSegmentation')
    return network
