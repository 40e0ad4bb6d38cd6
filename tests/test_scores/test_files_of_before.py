# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Files of fitted scores that the first version of their format wrote are read, and give the scores of then."""
from pathlib import Path

import tiny_components  # noqa: F401
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mgcda  # noqa: F401

FILES = Path(__file__).parents[1] / 'fixtures/fitted_scores'
SCORES = [
    dict(type='SML', boundary_widths=(2, ), dilation=1, fitted=str(FILES / 'sml.pth')),
    dict(type='ReAct', sample_size=40, fitted=str(FILES / 'react.pth')),
    dict(
        type='FlowNLL',
        layers=['backbone.conv', 'decode_head.conv_seg:input'],
        combine='logistic_regression',
        sample_size=60,
        num_steps=1,
        hidden_channels=2,
        num_iters=20,
        batch_size=32,
        fitted=str(FILES / 'flow.pth'))
]


def test_files_of_before_give_the_scores_of_then() -> None:
    model = MODELS.build(
        ConfigDict(
            type='AnomalySegmentor',
            data_preprocessor=dict(type='SegDataPreProcessor', size=(12, 16)),
            backbone=dict(type='TinyBackbone', channels=3),
            decode_head=dict(type='FCNHead', in_channels=3, channels=4, num_convs=1, num_classes=3, norm_cfg=None),
            test_cfg=dict(mode='whole'),
            scores=SCORES)).eval()
    before = torch.load(FILES / 'model.pth', weights_only=True)
    model.load_state_dict(before['state_dict'])
    image = (torch.arange(3 * 12 * 16).view(1, 3, 12, 16) * 12 % 256).float()
    with torch.no_grad():
        sample = model.predict(image, [SegDataSample(metainfo=dict(ori_shape=(12, 16), img_shape=(12, 16)))])[0]
    torch.testing.assert_close(sample.anomaly_scores.data, before['anomaly_scores'], rtol=1e-4, atol=1e-4)
