# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Models with anomaly scores, and the steps that one's own images pass."""
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.models import BaseSegmentor

from mgcda.models.builder import build_model
from mgcda.utils.configs import find_pipeline, read_config

#: Steps of a test pipeline that need files which one's own images do not have.
_FILES_OF_DATA_SETS = ('LoadAnnotations', 'LoadAnomalyAnnotations', 'LoadDissimilarityMaps')


def init_model(config: str | Config,
               checkpoint: str | None = None,
               device: str = 'cpu',
               cfg_options: dict | None = None) -> BaseSegmentor:
    """Build the model of a config for inference, with the weights of a checkpoint.

    Args:
        config: Config file or Config.
        checkpoint: Its trained weights, of a training or published; None leaves random ones, but for networks that the
            config names with theirs.
        device: As of torch.
        cfg_options: Entries that replace those of the config.

    Raises:
        ValueError: The config builds no anomaly segmentor; the checkpoint does not fit it.
    """
    cfg = read_config(config, cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = build_model(cfg, checkpoint, device)
    if not hasattr(model, 'switch_to_deploy'):
        raise ValueError(f'{type(model).__name__} is no anomaly segmentor: it has no anomaly scores')
    model.cfg = cfg
    return model


def image_steps(cfg: Config) -> list[dict]:
    """Steps of the test pipeline that one's own images pass: those that read no files of a data set.

    Raises:
        ValueError: The config has no test pipeline, or one that loads no image.
    """
    steps = find_pipeline((cfg.get('test_dataloader') or {}).get('dataset') or {})
    if steps is None:
        raise ValueError(f'{cfg.filename} has no pipeline in test_dataloader.dataset, which says how images are loaded')
    steps = [step for step in steps if kind_of(step) not in _FILES_OF_DATA_SETS]
    if not steps or not kind_of(steps[0]).startswith('LoadImage'):
        raise ValueError(f'the test pipeline of {cfg.filename} must begin with LoadImage')
    return steps


def kind_of(step: dict) -> str:
    """Name of the transform that a step of a pipeline builds, without its scope."""
    return step['type'].split('.')[-1]
