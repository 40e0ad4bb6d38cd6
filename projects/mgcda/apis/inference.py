# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Inference on one's own images."""
from typing import Any, Dict, List, NamedTuple, Optional, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.models import BaseSegmentor
from mmseg.registry import MODELS

from mgcda.datasets.leaf_configs import leaf_configs
from mgcda.engine.hooks.checkpoint_guard_hook import TEST_FORGIVEN, check_fit
from mgcda.labels import NUM_CITYSCAPES_CLASSES

#: Steps of a test pipeline that need files which one's own images do not have.
_FILES_OF_DATA_SETS = ('LoadAnnotations', 'LoadAnomalyAnnotations', 'LoadDissimilarityMaps')


class AnomalyResult(NamedTuple):
    """What a model says of an image.

    ``anomaly_scores``: float32 (H, W), larger = more anomalous. ``segmentation``: uint8 (H, W), Cityscapes train ids 0
    to 18 of the segmenter; None where the model holds none.
    """
    anomaly_scores: np.ndarray
    segmentation: Optional[np.ndarray]


def init_model(config: Union[str, Config],
               checkpoint: Optional[str] = None,
               device: str = 'cpu',
               cfg_options: Optional[dict] = None) -> BaseSegmentor:
    """Build the model of a config for inference, with the weights of a checkpoint.

    Args:
        config: Config file or Config, with a test pipeline.
        checkpoint: Its trained weights, of a training or published; None for models whose weights the config names.
        device: As of torch.
        cfg_options: Entries that replace those of the config.

    Raises:
        ValueError: The config has no test pipeline, or builds no anomaly segmentor; the checkpoint does not fit it.
    """
    cfg = Config.fromfile(config) if not isinstance(config, Config) else config.copy()
    if cfg_options is not None:
        cfg.merge_from_dict(cfg_options)
    pipeline = _pipeline_without_labels(cfg)
    model = MODELS.build(cfg.model)
    if not hasattr(model, 'switch_to_deploy'):
        raise ValueError(f'{type(model).__name__} is no anomaly segmentor: it has no anomaly scores')
    model.switch_to_deploy()
    if checkpoint is not None:
        # Loads the weights, too: keys that the model forgives are known only then.
        check_fit(model, CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu'), TEST_FORGIVEN)
    model.cfg, model.image_pipeline = cfg, pipeline
    return model.to(device).eval()


def inference_model(model: BaseSegmentor, img_path: str) -> AnomalyResult:
    """Score one image file with a model of :func:`init_model`, at the image's own size.

    The segmentation is the semantic map of the frozen segmenter where the model has one, else the prediction of a head
    of 19 classes.

    Raises:
        FileNotFoundError, ValueError: No such image, or a damaged one.
    """
    init_default_scope(model.cfg.get('default_scope', 'mmseg'))
    data = model.image_pipeline(dict(img_path=img_path, seg_fields=[], reduce_zero_label=False))
    frozen, seen = getattr(model, 'frozen', None), []
    handle = None if frozen is None else frozen.register_forward_hook(
        lambda module, inputs, maps: seen.append(maps['semantic']))
    try:
        with torch.no_grad():
            sample = model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]
    finally:
        if handle is not None:
            handle.remove()
    segmentation = None
    if seen:
        segmentation = seen[0][0, 0]
    elif model.num_classes == NUM_CITYSCAPES_CLASSES:
        segmentation = sample.pred_sem_seg.data[0]
    return AnomalyResult(
        sample.anomaly_scores.data[0].float().cpu().numpy(),
        None if segmentation is None else segmentation.cpu().numpy().astype(np.uint8))


def _pipeline_without_labels(cfg: Config) -> Compose:
    """The test pipeline, less the steps that read files of a data set."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    steps = find_pipeline((cfg.get('test_dataloader') or {}).get('dataset') or {})
    if steps is None:
        raise ValueError(f'{cfg.filename} has no pipeline in test_dataloader.dataset, which says how images are loaded')
    return Compose([step for step in steps if step['type'].split('.')[-1] not in _FILES_OF_DATA_SETS])


def find_pipeline(dataset: Dict[str, Any]) -> Optional[List[dict]]:
    """Pipeline of the config of a data set, or of the first one inside."""
    return next((leaf['pipeline'] for leaf in leaf_configs(dataset) if leaf.get('pipeline') is not None), None)
