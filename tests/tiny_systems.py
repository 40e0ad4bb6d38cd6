# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Real but very small runs of the systems that train with outliers, through the fragments that their configs use."""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import OPTIM_WRAPPERS
from tiny_dissimilarity import ROOT, RecordingOptimWrapper, model_of, write_tiny_mgcda
from torch import Tensor, nn

#: The tiny MGCDA run with a segmenter of 19 classes, outliers among the classes, and no domain classifiers. Data sets
#: that are not serialized spare garbage collections, which would take most of the time of runs as small as these.
RUN = """
_base_ = './tiny_mgcda.py'
norm_cfg = dict(type='GN', num_groups=2)
model = dict(
    _delete_=True,
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, seg_pad_val=255, size=(32, 48)),
    backbone=dict(type='TinyPyramid', channels=(4, 8), dropout=0.2),
    decode_head=dict(type='SegformerHead', in_channels=[4, 8], in_index=[0, 1], channels=8, num_classes=19,
                     norm_cfg=norm_cfg, dropout_ratio=0.1),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
void_class = dict(_base_.void_class, targets='classes', serialize_data=False)
anomaly_mix = dict(_base_.anomaly_mix, targets='classes', serialize_data=False)
train_dataloader = dict(dataset=dict(datasets=[void_class, anomaly_mix]))
test_dataloader = dict(dataset=dict(datasets=[
    dict(dataset, serialize_data=False) for dataset in _base_.test_dataloader.dataset.datasets]))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3))
train_cfg = dict(max_iters=4)
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=1000),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, save_last=True, max_keep_ckpts=-1))
"""

VOID_ALONE = """
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[_base_.void_class]))
"""
NORM = """
model = dict(_base_.method, outlier_head=dict(_base_.method.outlier_head, norm_cfg=_base_.norm_cfg))
"""
#: What a leaf config of each method says, as those below configs/ do.
METHODS = dict(
    void_class='model = _base_.method' + VOID_ALONE,
    max_entropy='model = _base_.method' + VOID_ALONE,
    outlier_head=NORM,
    dirichlet='model = _base_.method\noptim_wrapper = dict(clip_grad=_base_.clip_grad)' + VOID_ALONE,
    pebal="""
model = dict(_base_.method, tuned=['decode_head.fusion_conv', 'decode_head.conv_seg'])
train_dataloader = dict(dataset=dict(datasets=[dict(_base_.void_class, anomaly_ids=()), _base_.anomaly_mix]))
""",
    dense_hybrid=NORM,
    gmmseg="""
model = dict(
    _base_.method,
    decode_head=dict(
        _base_.method.decode_head, type='GMMSegformerHead', embed_channels=6, num_components=2, memory_size=40,
        num_samples=10))
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[dict(_base_.void_class, anomaly_ids=())]))
""")
#: MGCDA plugged into a host, as below configs/.
PLUGINS = dict(
    mgcda_outlier_head="taps=dict(score='outlier_posterior')",
    mgcda_pebal="taps=dict(score='energy', threshold=-9.0, features='decode_head.conv_seg:input')")
PLUGIN = """
_base_ = ['./{host}.py', '{root}/configs/_base_/plugins/mgcda.py']
default_hooks = dict(mdat=dict(
    _base_.mdat,
    feature_classifier=dict(type='DomainClassifier', in_channels=8, channels=(8, 8)),
    output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(8, 8))))
model = dict(
    {taps},
    train_only=dict(
        projector=dict(type='Projector', in_channels=8, channels=(6, 8)),
        contrast=dict(_base_.cacl.contrast, num_anchors=6)))
train_dataloader = dict(dataset=dict(datasets=[_base_.void_class, _base_.anomaly_mix]))
"""
SYSTEMS = (*METHODS, *PLUGINS)
NO_DROPOUT = {'model.backbone.dropout': 0., 'model.decode_head.dropout_ratio': 0.}


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(RecordingOptimWrapper):
    """Autocasts to bfloat16 on the CPU, where AmpOptimWrapper refuses to."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


def write_tiny_systems(folder: Path) -> Path:
    """Write data sets, and a config for each of SYSTEMS, under ``folder``, which is returned."""
    write_tiny_mgcda(folder)
    (folder / 'run.py').write_text(RUN)
    for name, text in METHODS.items():
        bases = f"_base_ = ['./run.py', '{ROOT}/configs/_base_/methods/{name}.py']\n"
        (folder / f'{name}.py').write_text(bases + text)
    for name, taps in PLUGINS.items():
        host = name.removeprefix('mgcda_')
        (folder / f'{name}.py').write_text(PLUGIN.format(root=ROOT, host=host, taps=taps))
    return folder


def build_system(folder: Path, name: str, work_dir: Path, **options: Any) -> Runner:
    """A runner of one of SYSTEMS with a recorder of its iterations; options override its config."""
    cfg = Config.fromfile(str(folder / f'{name}.py'))
    cfg.merge_from_dict({'work_dir': str(work_dir), 'experiment_name': work_dir.name, 'log_level': 'ERROR', **options})
    cfg.custom_hooks.append(dict(type='TinyRecorder'))
    return Runner.from_cfg(cfg)


@torch.no_grad()
def predictions(runner: Runner) -> dict[str, Tensor]:
    """Anomaly scores (S, H, W) of the test images, by file."""
    model = model_of(runner).eval()
    loader = runner.build_dataloader(runner.cfg.test_dataloader)
    samples = [sample for batch in loader for sample in model.test_step(batch)]
    return {sample.img_path: sample.anomaly_scores.data for sample in samples}
