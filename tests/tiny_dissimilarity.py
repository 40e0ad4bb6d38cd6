# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""A real but very small run of MGCDA: files in the real layouts, frozen networks, config, recording pieces."""
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModule, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import HOOKS, MODELS, OPTIM_WRAPPERS
from torch import Tensor, nn

import mgcda  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH = 32, 48

SEGMENTER = """
custom_imports = dict(imports=['tiny_dissimilarity'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True),
    backbone=dict(type='TinyPyramid', channels=(4, 8)),
    decode_head=dict(type='FCNHead', in_channels=8, in_index=1, channels=8, num_convs=1, num_classes=19),
    test_cfg=dict(mode='whole'))
"""

GENERATOR = """
model = dict(
    type='Resynthesizer',
    generator=dict(type='SPADEGenerator', base_channels=4, num_stages=3, hidden_channels=4))
"""

CONFIG = """
_base_ = ['{root}/configs/_base_/default_runtime.py']
custom_imports = dict(imports=['mgcda', 'tiny_dissimilarity'], allow_failed_imports=False)
data_root = '{folder}/'
work_dir = '{folder}/work'
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1),
               dist_cfg=dict(backend='gloo'))
randomness = dict(seed=3)
model = dict(
    type='DissimilaritySegmentor',
    frozen=dict(
        type='FrozenMaps',
        segmenter=dict(config=data_root + 'segmenter.py', checkpoint=data_root + 'segmenter.pth'),
        generator=dict(config=data_root + 'generator.py', checkpoint=data_root + 'generator.pth'),
        segmenter_size=None,
        generator_size=(16, 24)),
    backbone=dict(type='TinyPyramid', channels=(4, 8), dropout=0.2),
    decode_head=dict(type='DissimilarityDecodeHead', in_channels=(4, 8), feature_strides=(1, 2),
                     fusion_channels=(6, 8), semantic_channels=(3, 4), decoder_channels=(5, 6), spade_channels=4),
    train_only=dict(
        projector=dict(type='Projector', in_channels=5, channels=(6, 8)),
        contrast=dict(type='CACLLoss', num_anchors=6, loss_weight=0.1)),
    test_cfg=dict(mode='whole'))
loading = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')]
augmenting = [dict(type='RandomFlip', prob=0.5), dict(type='PackDissimilarityInputs')]
void_class = dict(
    type='VoidClassDataset', data_root=data_root + 'cityscapes', pipeline=[*loading, *augmenting])
anomaly_mix = dict(
    type='AnomalyMixDataset',
    data_root=data_root + 'cityscapes',
    objects=dict(data_root=data_root + 'coco', ann_file='instances.json', img_path='images', min_area=20),
    pipeline=[*loading, dict(type='PasteObjects', num_objects=(1, 2), scale=(0.2, 0.5)), *augmenting])
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DomainBalancedSampler', batch_size=4, infinite=True),
    dataset=dict(type='MultiDomainDataset', datasets=[void_class, anomaly_mix]))
test_pipeline = [*loading, dict(type='PackDissimilarityInputs')]
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='ConcatDataset', datasets=[
        dict(type='RoadAnomalyDataset', data_root=data_root + 'road_anomaly', pipeline=test_pipeline, test_mode=True),
        dict(type='FishyscapesDataset', data_root=data_root + 'fishyscapes', pipeline=test_pipeline, test_mode=True)]))
test_evaluator = dict(type='AnomalyMetric')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='RecordingOptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [dict(type='PolyLR', power=0.9, begin=0, end=8, by_epoch=False)]
train_cfg = dict(type='ResumableIterTrainLoop', max_iters=6, val_interval=1000)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=1000),
    checkpoint=dict(by_epoch=False, interval=3, save_last=True, max_keep_ckpts=-1),
    class_weights=dict(type='ClassWeightHook', num_images=3),
    mdat=dict(
        type='MDATHook',
        feature_classifier=dict(type='DomainClassifier', in_channels=8, channels=(8, 8)),
        output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(8, 8)),
        optimizer=dict(type='Adam', lr=1e-3)))
custom_hooks = [dict(type='KeyedRandomHook'), dict(type='InvalidLossHook'), dict(type='CheckpointGuardHook')]
"""


@MODELS.register_module()
class TinyPyramid(BaseModule):
    """Convolutions of strides 1, 2, ...; each level with dropout."""

    def __init__(self, channels: Sequence[int], dropout: float = 0., init_cfg: dict = None) -> None:
        super().__init__(init_cfg)
        widths = (3, *channels)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=1 + (i > 0), padding=1), nn.ReLU(), nn.Dropout(dropout))
            for i, (a, b) in enumerate(zip(widths, widths[1:])))

    def forward(self, x: Tensor) -> tuple:
        outs = []
        for level in self.levels:
            x = level(x)
            outs.append(x)
        return tuple(outs)


@OPTIM_WRAPPERS.register_module()
class RecordingOptimWrapper(OptimWrapper):
    """Keeps the gradients of its last step, in the order of the parameters; the hook's wrapper mirrors this class."""

    def step(self, **kwargs) -> None:
        self.last_gradients = [
            None if param.grad is None else param.grad.clone() for group in self.param_groups
            for param in group['params']
        ]
        super().step(**kwargs)


@HOOKS.register_module()
class TinyRecorder(Hook):
    """Keeps of each iteration what went in, what came out, and the players after it."""

    # After MDATHook, which trains the classifiers in after_train_iter; before it, nothing draws random numbers.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def before_train(self, runner: Runner) -> None:
        self.initial = players(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None) -> None:
        samples = data_batch['data_samples']
        self.row = dict(
            iteration=runner.iter,
            tau=getattr(mdat_hook(runner), 'tau', None),
            random_state=torch.get_rng_state(),
            files=[sample.img_path for sample in samples],
            flips=[sample.flip for sample in samples],
            domains=[sample.domain for sample in samples],
            inputs=torch.stack(list(data_batch['inputs'])).clone(),
            targets=torch.stack([sample.gt_sem_seg.data for sample in samples]).clone())

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None, outputs: dict = None) -> None:
        self.row.update(
            losses={
                name: torch.as_tensor(value).detach().clone()
                for name, value in outputs.items()
            },
            rates=[group['lr'] for group in runner.optim_wrapper.param_groups],
            gradients=gradients(runner),
            players=players(runner))
        self.rows.append(self.row)


def mdat_hook(runner: Runner) -> Hook | None:
    return next((hook for hook in runner.hooks if type(hook).__name__ == 'MDATHook'), None)


def recorder_of(runner: Runner) -> TinyRecorder:
    return next(hook for hook in runner.hooks if isinstance(hook, TinyRecorder))


def gradients(runner: Runner) -> dict[str, list[Tensor | None]]:
    """Gradients of the last step of the network and, if there are any, of the domain classifiers."""
    hook = mdat_hook(runner)
    wrappers = dict(model=runner.optim_wrapper, **({} if hook is None else dict(mdat=hook.optim_wrapper)))
    return {role: wrapper.last_gradients for role, wrapper in wrappers.items()}


def players(runner: Runner) -> dict[str, dict[str, Tensor]]:
    """Copies of the weights of the network and, if there are any, of the domain classifiers."""
    hook = mdat_hook(runner)
    modules = dict(model=model_of(runner), **({} if hook is None else dict(mdat=hook.discriminators)))
    return {
        role: {
            key: value.clone()
            for key, value in module.state_dict().items()
        }
        for role, module in modules.items()
    }


def model_of(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def assert_identical(actual: Any, expected: Any, path: str = '') -> None:
    """Nested dicts, lists, tensors and numbers must be the same to the last bit."""
    if isinstance(expected, Tensor):
        assert torch.equal(actual, expected), path
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), path
        for key, value in expected.items():
            assert_identical(actual[key], value, f'{path}.{key}')
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), path
        for index, value in enumerate(expected):
            assert_identical(actual[index], value, f'{path}[{index}]')
    else:
        assert actual == expected, path


@contextmanager
def quick_runs() -> Iterator[None]:
    """Leave out what costs runs as small as these most of their time.

    These are threads, and the layout of the copy of the config, which is searched for seconds where paths are long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mock.patch('mmengine.config.config.FormatCode', lambda text, **kwargs: (text, True)):
            yield
    finally:
        torch.set_num_threads(threads)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def write_tiny_mgcda(folder: Path) -> Path:
    """Write data sets, frozen networks and the config under ``folder``; the path of the config.

    5 streets, 4 cows of COCO, and 3 + 2 test images.
    """
    rng = np.random.default_rng(0)

    def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
        return cv2.resize(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8), (width, height))

    label = np.resize(np.repeat(np.arange(34, dtype=np.uint8), 4), (HEIGHT, WIDTH))
    for i in range(5):
        name = f'a/a_{i}'
        write(folder / f'cityscapes/leftImg8bit/train/{name}_leftImg8bit.png', picture())
        write(folder / f'cityscapes/gtFine/train/{name}_gtFine_labelIds.png', np.roll(label, 5 * i, 1))
    coco: dict[str, list] = dict(images=[], annotations=[], categories=[dict(id=1, name='cow')])
    for i in range(4):
        write(folder / f'coco/images/{i}.jpg', picture(20, 20))
        coco['images'].append(dict(id=i, file_name=f'{i}.jpg', height=20, width=20))
        corners = [2, 2, 17, 4, 12, 16 - i, 3, 15]
        coco['annotations'].append(
            dict(id=i, image_id=i, category_id=1, iscrowd=0, area=150., bbox=[2, 2, 15, 14], segmentation=[corners]))
    (folder / 'coco/instances.json').write_text(json.dumps(coco))
    target = np.zeros((HEIGHT, WIDTH), np.uint8)
    target[5:20, 10:30] = 1
    for i in range(3):
        write(folder / f'road_anomaly/frames/{i}.jpg', picture())
        write(folder / f'road_anomaly/frames/{i}.labels/labels_semantic.png', 2 * np.roll(target, 3 * i, 1))
    for i in range(2):
        void = np.where(np.arange(WIDTH) < 4, 255, np.roll(target, i, 0)).astype(np.uint8)
        write(folder / f'fishyscapes/original/{i}.png', picture())
        write(folder / f'fishyscapes/labels/{i}.png', void)
    write_frozen(folder)
    config = folder / 'tiny_mgcda.py'
    config.write_text(CONFIG.format(root=ROOT, folder=folder))
    return config


def write_frozen(folder: Path) -> None:
    """Write configs and checkpoints of a segmenter with sharp random weights and of a generator."""
    init_default_scope('mmseg')
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for role, text in (('segmenter', SEGMENTER), ('generator', GENERATOR)):
            (folder / f'{role}.py').write_text(text)
            model = Config.fromfile(folder / f'{role}.py', import_custom_modules=False).model
            network = MODELS.build(model if role == 'segmenter' else model.generator)
            state = network.state_dict()
            if role == 'segmenter':  # random logits are nearly flat
                state['decode_head.conv_seg.weight'].mul_(400)
            prefix = 'generator.' if role == 'generator' else ''
            torch.save(dict(state_dict={prefix + key: value for key, value in state.items()}), folder / f'{role}.pth')


def write_tiny_checkpoint(config: Path, path: Path) -> None:
    """Write a checkpoint of the config's model, from a seed, as a training leaves it."""
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(meta=dict(), state_dict=model.state_dict()), path)
