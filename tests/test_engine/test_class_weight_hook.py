# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Class weights from the labels of a run; that a resumed run and several ranks have the same is in test_resume.py."""
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import DATASETS
from tiny_dissimilarity import quick_runs, write_tiny_mgcda
from torch import nn
from torch.utils.data import DataLoader

from mgcda.engine.hooks import ClassWeightHook
from mgcda.labels import OUTLIER
from mgcda.models.losses import PixelCrossEntropyLoss


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_runs():
        yield write_tiny_mgcda(tmp_path_factory.mktemp('weights'))


def start(hook: ClassWeightHook, config: Path, loss: nn.Module = None, num_workers: int = 0) -> nn.Module:
    """Let a hook weigh a loss by the data of the config, as a run that starts does; the loss, and what was logged."""
    init_default_scope('mmseg')
    dataset = DATASETS.build(Config.fromfile(config).train_dataloader.dataset)
    model = nn.Linear(1, 1)
    model.loss = PixelCrossEntropyLoss() if loss is None else loss
    lines = []
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper(model),
        logger=SimpleNamespace(info=lines.append),
        _resume=True,
        train_dataloader=DataLoader(dataset, num_workers=num_workers))
    state = torch.get_rng_state()
    hook.before_run(runner)
    hook.before_train(runner)
    assert torch.equal(torch.get_rng_state(), state)
    model.loss.lines = lines
    return model.loss


def wrapper(model: nn.Module):
    from mmengine.optim import OptimWrapper
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=.1))


def test_weights_are_those_of_all_labels(config: Path) -> None:
    init_default_scope('mmseg')
    dataset = DATASETS.build(Config.fromfile(config).train_dataloader.dataset)
    labels = [dataset[i]['data_samples'].gt_sem_seg.data.numpy() for i in range(len(dataset))]  # 5 + 5 images
    pixels = np.array([[(label == value).sum() for value in (0, 1)] for label in labels]).sum(0)
    expected = 1 / np.log(1.02 + pixels / pixels.sum())
    losses = [start(ClassWeightHook(), config, num_workers=workers) for workers in (0, 2)]
    assert torch.equal(losses[0].label_weight, losses[1].label_weight)
    np.testing.assert_allclose(losses[0].label_weight[:2].numpy(), expected, rtol=1e-6)
    assert losses[0].lines == [f'class weights {expected[0]:.2f}, {expected[1]:.2f} from 10 labels']
    torch.manual_seed(0)
    logits, label = torch.randn(2, 2, 6, 5), torch.randint(0, 2, (2, 6, 5))
    label[0, :3] = 255
    weight = torch.tensor(expected, dtype=torch.float32)
    torch.testing.assert_close(losses[0](logits, label), F.cross_entropy(logits, label, weight, ignore_index=255))


def test_a_part_of_the_images_is_the_same_in_every_run(config: Path) -> None:
    first, second = (start(ClassWeightHook(num_images=2), config) for _ in range(2))
    assert torch.equal(first.label_weight, second.label_weight) and 'from 4 labels' in first.lines[0]
    assert not torch.equal(first.label_weight, start(ClassWeightHook(), config).label_weight)


def test_weights_of_the_config_stay(config: Path) -> None:
    loss = start(ClassWeightHook(), config, PixelCrossEntropyLoss(class_weight=(1.5, 8.)))
    assert loss.class_weight.tolist() == [1.5, 8.] and loss.label_weight is None and 'config' in loss.lines[0]


def test_outliers_count_as_the_loss_takes_them() -> None:
    counts = torch.zeros(256, dtype=torch.float64)
    counts[:3], counts[OUTLIER], counts[255] = torch.tensor([60., 20., 0.]), 20., 1000.
    torch.manual_seed(0)
    label = torch.tensor([0, 1, 2, OUTLIER, 255]).repeat(1, 4, 1)
    for outliers, num_channels, last in (('ignore', 3, 255), ('last_class', 4, 3)):
        total = 80 if outliers == 'ignore' else 100
        shares = torch.tensor([60., 20., 0., 20.])[:num_channels] / total
        loss = PixelCrossEntropyLoss(outliers=outliers)
        loss.set_pixel_counts(counts)
        logits = torch.randn(1, num_channels, 4, 5)
        expected = F.cross_entropy(
            logits, label.masked_fill(label == OUTLIER, last), 1 / (1.02 + shares).log(), ignore_index=255)
        torch.testing.assert_close(loss(logits, label), expected)


def test_a_run_says_what_it_took_and_refuses_to_resume_without(config: Path, tmp_path: Path, forget_runs) -> None:
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({'work_dir': str(tmp_path / 'plain'), 'train_cfg.max_iters': 1})
    del cfg.default_hooks.class_weights, cfg.default_hooks.mdat
    Runner.from_cfg(cfg).train()
    forget_runs()
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({'work_dir': str(tmp_path / 'weighted'), 'train_cfg.max_iters': 1})
    del cfg.default_hooks.mdat
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = next((tmp_path / 'weighted').rglob('*.log')).read_text()
    assert re.search(r'class weights \d+\.\d\d, \d+\.\d\d from 6 labels', log)
    forget_runs()
    cfg.merge_from_dict({'resume': True, 'load_from': (tmp_path / 'plain/last_checkpoint').read_text()})
    with pytest.raises(ValueError, match="no 'class_weights'"):
        Runner.from_cfg(cfg).train()


def test_what_cannot_be_weighed_is_refused(config: Path) -> None:
    with pytest.raises(ValueError, match='num_images'):
        ClassWeightHook(num_images=0)
    with pytest.raises(TypeError, match='no loss with set_pixel_counts'):
        start(ClassWeightHook(), config, nn.CrossEntropyLoss())
    hook, model = ClassWeightHook(), nn.Sequential(nn.Linear(1, 1), PixelCrossEntropyLoss())
    runner = SimpleNamespace(
        model=model, optim_wrapper=wrapper(model), _resume=False, train_dataloader=DataLoader([0, 1]))
    hook.before_run(runner)
    with pytest.raises(TypeError, match='MultiDomainDataset'):
        hook.before_train(runner)
