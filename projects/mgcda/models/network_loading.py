# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import import_modules_from_strings
from mmseg.registry import MODELS
from mmseg.utils import ConfigType
from torch import nn


def load_network(cfg: ConfigType, name: str, child: str | None = None) -> nn.Module:
    """Build the network that another config describes, with the weights of a checkpoint.

    Args:
        cfg (dict): ``config``, a config file, and ``checkpoint``, a file or an address, or None for random weights.
        name (str): What errors call it: 'frozen.segmenter'.
        child (str, optional): Take this child of the model only. None takes a segmentor whole. Defaults to None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Other keys, a config of another kind of model, a checkpoint that is damaged, could run code, or is
            of another one.
    """
    if set(cfg) != {'config', 'checkpoint'}:
        raise ValueError(f"{name} needs 'config' and 'checkpoint' (None for random weights), got {sorted(cfg)}")
    path, checkpoint = cfg['config'], cfg['checkpoint']
    if not Path(path).is_file():
        raise FileNotFoundError(f'{name}.config: no such file: {path}')
    if checkpoint is not None and '://' not in checkpoint and not Path(checkpoint).is_file():
        raise FileNotFoundError(f'{name}.checkpoint: no such file: {checkpoint}; the config {path} says how to '
                                'train or download it')
    config = Config.fromfile(path)
    if config.get('custom_imports'):
        import_modules_from_strings(**config.custom_imports)
    model_cfg = config.model if child is None else config.model.get(child)
    if model_cfg is None:
        raise ValueError(f'{name}.config: {path} has no model.{child}')
    network = MODELS.build(model_cfg)
    if child is None and not hasattr(network, 'inference'):
        raise ValueError(f'{name}.config: {path} is not a segmentor of MMSegmentation')
    if checkpoint is not None:
        _load_weights(network, checkpoint, '' if child is None else f'{child}.', name)
    return network


def _load_weights(network: nn.Module, checkpoint: str, prefix: str, name: str) -> None:
    try:
        state = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except ValueError as error:
        raise ValueError(f'{name}.checkpoint: {error}') from error
    state = state.get('state_dict', state) if isinstance(state, dict) else {}
    state = {key[len(prefix):]: value for key, value in state.items() if key.startswith(prefix)}
    expected = network.state_dict()
    wrong = [
        key for key, value in expected.items()
        if not key.endswith('num_batches_tracked') and (key not in state or state[key].shape != value.shape)
    ]
    if wrong:
        raise ValueError(f'{name}.checkpoint: {checkpoint} is of another architecture: {len(wrong)} of '
                         f'{len(expected)} weights are missing or of another shape, such as {wrong[:3]}')
    network.load_state_dict(state, strict=False)
