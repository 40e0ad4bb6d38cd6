# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The segmenters of configs/_base_/models, and their heads over every backbone."""
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mgcda  # noqa: F401
from mgcda.labels import IGNORE, OUTLIER
from mgcda.models import PixelCrossEntropyLoss

ZOO = Path(mmseg.__file__).parent / '.mim/configs'
BACKBONES = ('vgg16', 'resnet50', 'mit_b2', 'convnext_tiny', 'dinov2_vit-b')
SIZE = (32, 64)

LEAF = """
_base_ = ['{configs}/_base_/models/{head}.py', '{configs}/_base_/backbones/{backbone}.py']
model = dict(
    backbone=_base_.backbone, neck=_base_.get('neck'), decode_head=dict(in_channels=_base_.pyramid.in_channels))
"""
AUXILIARY = 'model.update(auxiliary_head=dict(in_channels=_base_.pyramid.in_channels[2]))'


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmseg')


def train_and_predict(model_cfg: dict) -> dict[str, torch.Tensor]:
    """Losses of noise with outliers and ignored pixels; checks gradients and the prediction."""
    torch.manual_seed(0)
    model_cfg['backbone'].pop('init_cfg', None)
    model = revert_sync_batchnorm(MODELS.build(model_cfg)).train()
    samples = []
    for _ in range(2):
        label = torch.tensor([0, 7, 18, OUTLIER, IGNORE])[torch.randint(5, (1, *SIZE))]
        sample = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE), gt_sem_seg=PixelData(data=label))
        samples.append(sample)
    losses = model(torch.randn(2, 3, *SIZE), samples, mode='loss')
    values = {name: value for name, value in losses.items() if 'loss' in name}
    assert all(value.isfinite() and value > 0 for value in values.values())
    sum(values.values()).backward()
    missing = [name for name, param in model.named_parameters() if param.requires_grad and param.grad is None]
    assert not missing
    with torch.no_grad():
        result = model.eval()(torch.randn(1, 3, 50, 70), mode='predict')[0]  # sides that no stride divides
    assert result.seg_logits.data.shape == (19, 50, 70) and result.seg_logits.data.isfinite().all()
    return values


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('head', ['upernet', 'segformer'])
def test_heads_over_every_backbone(head: str, backbone: str, tmp_path: Path, repo_root: Path) -> None:
    leaf = tmp_path / 'leaf.py'
    text = LEAF.format(configs=repo_root / 'configs', head=head, backbone=backbone)
    leaf.write_text(text + AUXILIARY if head == 'upernet' else text)
    model = Config.fromfile(leaf).model
    model.decode_head.channels = 16
    if head == 'upernet':
        model.auxiliary_head.channels = 16
    losses = train_and_predict(model)
    assert set(losses) == ({'decode.loss_ce', 'aux.loss_ce'} if head == 'upernet' else {'decode.loss_ce'})


def test_every_backbone_is_tested(repo_root: Path) -> None:
    files = (repo_root / 'configs/_base_/backbones').glob('*.py')
    assert sorted(path.stem for path in files) == sorted(BACKBONES)


@pytest.mark.parametrize('name, published, without', [
    ('deeplabv3plus_r101-d8', 'deeplabv3plus/deeplabv3plus_r101-d8_4xb2-80k_cityscapes-512x1024.py', 'auxiliary_head.'),
    ('segformer_mit-b2', 'segformer/segformer_mit-b2_8xb1-160k_cityscapes-1024x1024.py', None),
    ('upernet_r50', 'upernet/upernet_r50_4xb2-80k_cityscapes-512x1024.py', None),
])
def test_segmenters_are_those_of_the_model_zoo(name: str, published: str, without: str, repo_root: Path) -> None:
    """Same weights by name and shape, and the address of the file is in the zoo's index."""
    cfg = Config.fromfile(repo_root / f'configs/_base_/models/{name}.py')
    zoo = Config.fromfile(ZOO / published).model
    for head in ('decode_head', 'auxiliary_head'):
        loss = cfg.model.get(head, {}).get('loss_decode', {})
        assert head not in cfg.model or MODELS.get(loss['type']) is PixelCrossEntropyLoss
        if head in cfg.model:
            assert loss.get('loss_weight', 1.0) == zoo[head].loss_decode.loss_weight
    model, reference = MODELS.build(cfg.model), MODELS.build(zoo)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    expected = {key: value.shape for key, value in reference.state_dict().items()}
    assert shapes == {key: shape for key, shape in expected.items() if not (without and key.startswith(without))}
    assert str(model.decode_head) == str(reference.decode_head).replace('CrossEntropyLoss(avg_non_ignore=False)',
                                                                        'PixelCrossEntropyLoss()')
    assert f'Weights: {cfg.segmenter_checkpoint}\n' in (ZOO / published).with_name('metafile.yaml').read_text()


@pytest.mark.parametrize('name', ['deeplabv3plus_r101-d8', 'segformer_mit-b2', 'upernet_convnext-t', 'upernet_r50'])
def test_segmenters_start_from_pretrained_backbones(name: str, repo_root: Path) -> None:
    model = Config.fromfile(repo_root / f'configs/_base_/models/{name}.py').model
    assert model.backbone.init_cfg['type'] == 'Pretrained'
    assert model.decode_head.num_classes == 19


def test_convnext_segmenter_trains(repo_root: Path) -> None:
    model = Config.fromfile(repo_root / 'configs/_base_/models/upernet_convnext-t.py').model
    model.decode_head.channels = model.auxiliary_head.channels = 16
    assert set(train_and_predict(model)) == {'decode.loss_ce', 'aux.loss_ce'}
