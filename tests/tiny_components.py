# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""A real but very small segmentation run for tests of the tools: components, files and config."""
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.model import BaseModule
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]

CONFIG = """
_base_ = ['{root}/configs/_base_/default_runtime.py']
custom_imports = dict(imports=['mgcda', 'tiny_components'], allow_failed_imports=False)
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1),
               dist_cfg=dict(backend='gloo'))
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='TinySegmentor',
    data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True, size=(16, 16), seg_pad_val=255),
    backbone=dict(type='TinyBackbone', channels=4),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=2, norm_cfg=norm_cfg,
                     loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[[dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
                                         [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
dataset = dict(type='BaseSegDataset', data_root='{data}', img_suffix='.png', seg_map_suffix='.png',
               metainfo=dict(classes=('road', 'rest'), palette=[[0, 0, 0], [255, 255, 255]]),
               data_prefix=dict(img_path='img', seg_map_path='label'))
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(pipeline=train_pipeline, **dataset))
test_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                       dataset=dict(pipeline=test_pipeline, **dataset))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
"""


@MODELS.register_module()
class TinyBackbone(BaseModule):
    """One convolution."""

    def __init__(self, channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, x: Tensor) -> tuple:
        return (self.conv(x / 255), )


@MODELS.register_module()
class TinySegmentor(EncoderDecoder):
    """Has a child for training alone; its loss is NaN from iteration ``nan_at`` (counted from 1) on."""

    def __init__(self, nan_at: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.train_only = nn.Conv2d(4, 1, 1)
        self.nan_at, self.calls = nan_at, 0

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        self.calls += 1
        losses = super().loss(inputs, data_samples)
        losses['loss_extra'] = 0.01 * self.train_only(self.backbone(inputs)[0]).square().mean()
        if self.nan_at is not None and self.calls >= self.nan_at:
            losses['loss_extra'] = losses['loss_extra'] * float('nan')
        return losses

    def switch_to_deploy(self) -> None:
        if hasattr(self, 'train_only'):
            del self.train_only


def write_tiny_run(folder: Path, num_images: int = 4) -> Path:
    """Write images, labels and a config under ``folder``; the path of the config."""
    rng = np.random.default_rng(0)
    for kind in ('img', 'label'):
        (folder / 'data' / kind).mkdir(parents=True, exist_ok=True)
    for index in range(num_images):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / 'data/img' / f'{index}.png'), image)
        cv2.imwrite(str(folder / 'data/label' / f'{index}.png'), (image[..., 2] > 127).astype(np.uint8))
    config = folder / 'tiny.py'
    config.write_text(CONFIG.format(root=ROOT, data=folder / 'data'))
    return config


def build_tiny_model(channels: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='TinySegmentor',
            backbone=dict(type='TinyBackbone', channels=channels),
            decode_head=dict(
                type='FCNHead', in_channels=channels, channels=4, num_convs=1, num_classes=2,
                norm_cfg=dict(type='BN'))))
