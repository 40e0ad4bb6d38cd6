# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Runs that are interrupted and resumed give bitwise what one run in one go gives."""
import itertools
import os.path as osp
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS
from tiny_dissimilarity import quick_runs
from torch import nn

import mgcda  # noqa: F401

RUNS = itertools.count()


@DATASETS.register_module(name='LoopDataset', force=True)
class LoopDataset(BaseDataset):
    """Numbers with noise from the generators that the key seeds."""

    METAINFO = dict(classes=('number', ))

    def __init__(self, size, domain, **kwargs):
        self.size, self.domain = size, domain
        super().__init__(ann_file='', data_prefix={}, **kwargs)

    def load_data_list(self):
        return [dict(value=float(self.domain * 100 + i)) for i in range(self.size)]

    def prepare_data(self, idx):
        noise = np.random.random() + random.random() + torch.rand(()).item()
        value = self.get_data_info(idx)['value']
        return dict(inputs=torch.tensor([value, noise]))


@MODELS.register_module(name='LoopModel', force=True)
class LoopModel(BaseModel):
    """A linear layer with dropout, so that the training step draws too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs, mode='loss'):
        inputs = torch.stack(list(inputs))
        if mode == 'predict':
            return [self.layer(inputs).mean()]
        return dict(loss_step=self.dropout(self.layer(inputs / 100)).square().mean())


@HOOKS.register_module(name='LoopRecorder', force=True)
class LoopRecorder(Hook):
    """Keeps the data and the loss of every iteration."""

    def __init__(self):
        self.rows = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        inputs = torch.stack(list(data_batch['inputs'])).flatten().tolist()
        rate = runner.optim_wrapper.param_groups[0]['lr']
        self.rows.append((runner.iter, batch_idx, runner.epoch, inputs, outputs['loss'].item(), rate))


def build(work_dir,
          by_epoch=False,
          workers=0,
          infinite=False,
          stop=8,
          resume=None,
          interval=3,
          batch_size=4,
          seed=7,
          sampler=None,
          randomness=None,
          param_scheduler=None,
          default_hooks=None,
          val_interval=1000,
          **settings):
    init_default_scope('mmseg')
    loop = dict(
        type='ResumableEpochTrainLoop', max_epochs=stop) if by_epoch else dict(
            type='ResumableIterTrainLoop', max_iters=stop)
    cfg = Config(
        dict(
            model=dict(type='LoopModel'),
            work_dir=str(work_dir),
            train_dataloader=dict(
                batch_size=batch_size,
                num_workers=workers,
                persistent_workers=workers > 0,
                sampler=sampler or dict(type='DomainBalancedSampler', batch_size=4, infinite=infinite),
                dataset=dict(
                    type='MultiDomainDataset',
                    datasets=[dict(type='LoopDataset', size=7, domain=0),
                              dict(type='LoopDataset', size=3, domain=1)])),
            optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.01)),
            param_scheduler=param_scheduler or [dict(type='PolyLR', power=0.9, begin=0, end=20, by_epoch=False)],
            train_cfg=dict(loop, val_interval=val_interval),
            **settings,
            default_hooks=default_hooks
            or dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=interval)),
            custom_hooks=[dict(type='KeyedRandomHook'), dict(type='LoopRecorder')],
            randomness=dict(seed=seed) if randomness is None else randomness,
            default_scope='mmseg',
            experiment_name=f'{osp.basename(str(work_dir))}_{next(RUNS)}',
            resume=resume is not None,
            load_from=resume))
    return Runner.from_cfg(cfg)


@METRICS.register_module(name='LoopMetric', force=True)
class LoopMetric(BaseMetric):
    """A 'loss' that tells the weights apart but does not get better."""

    default_prefix = 'val'

    def process(self, data_batch, data_samples):
        self.results.append(data_samples[0].item())

    def compute_metrics(self, results):
        return dict(loss=1 + abs(sum(results)))


#: What a run that validates has beside its interval.
VALIDATION = dict(
    val_cfg=dict(type='ValLoop'),
    val_evaluator=dict(type='LoopMetric'),
    val_dataloader=dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='LoopDataset', size=2, domain=0)))


def train(runner):
    model = runner.train()
    recorder = next(hook for hook in runner.hooks if isinstance(hook, LoopRecorder))
    return recorder.rows, {key: value.clone() for key, value in model.state_dict().items()}


def assert_same(whole, resumed, first):
    assert resumed[0] == whole[0][first:]
    assert len(resumed[0]) > 0
    for key, value in whole[1].items():
        assert torch.equal(value, resumed[1][key]), key


@pytest.mark.parametrize('infinite', [False, True])
def test_iter_loop_resumes_to_the_bit(tmp_path, infinite):
    whole = train(build(tmp_path / 'a', infinite=infinite))
    assert len(whole[0]) == 8
    resumed = build(tmp_path / 'b', infinite=infinite, resume=str(tmp_path / 'a' / 'iter_3.pth'))
    assert_same(whole, train(resumed), 3)


def test_iter_loop_resumes_to_the_bit_with_workers(tmp_path):
    whole = train(build(tmp_path / 'a'))
    resumed = build(tmp_path / 'b', workers=2, resume=str(tmp_path / 'a' / 'iter_6.pth'))
    assert_same(whole, train(resumed), 6)


@pytest.mark.parametrize('interval', [3, 4])
def test_epoch_loop_resumes_inside_and_between_epochs(tmp_path, interval):
    # 7 samples, 2 a batch: 4 batches an epoch, so that iteration 3 lies inside and 4 at the end of an epoch.
    whole = train(build(tmp_path / 'a', by_epoch=True, stop=3, interval=interval))
    assert [row[0] for row in whole[0]] == list(range(12))
    assert [row[1] for row in whole[0]] == [0, 1, 2, 3] * 3
    resumed = build(
        tmp_path / 'b', by_epoch=True, stop=3, interval=interval, resume=str(tmp_path / 'a' / f'iter_{interval}.pth'))
    assert_same(whole, train(resumed), interval)


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('place', [1, 2])
def test_a_rate_that_follows_validation_resumes_to_the_bit(tmp_path, by_epoch, place):
    """Checkpoints are written before the validation of their step, which the schedule must not miss."""
    hook = dict(type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 2)
    plateau = dict(type='ReduceOnPlateauLR', monitor='val/loss', rule='less', factor=0.5, patience=0, threshold=0.5)
    settings = dict(
        by_epoch=by_epoch,
        stop=5 if by_epoch else 10,
        val_interval=1 if by_epoch else 2,
        default_hooks=dict(checkpoint=hook),
        param_scheduler=[plateau],
        **VALIDATION)
    with quick_runs():
        whole = train(build(tmp_path / 'a', **settings))
        name = f'epoch_{place}.pth' if by_epoch else f'iter_{2 * place}.pth'
        resumed = train(build(tmp_path / 'b', **settings, resume=str(tmp_path / 'a' / name)))
    rates = [row[-1] for row in whole[0]]
    assert rates[0] == rates[1] == 0.01 and min(rates) < 0.002 and len(set(rates)) == 4
    assert_same(whole, resumed, place * (4 if by_epoch else 2))


def test_resume_without_a_seed_takes_that_of_the_checkpoint(tmp_path):
    whole = train(build(tmp_path / 'a', randomness=dict(seed=None)))
    resumed = build(tmp_path / 'b', randomness=dict(seed=None), resume=str(tmp_path / 'a' / 'iter_3.pth'))
    assert_same(whole, train(resumed), 3)


def test_no_data_is_read_before_the_start_is_known(tmp_path, monkeypatch):
    train(build(tmp_path / 'a'))
    read = []
    original = LoopDataset.prepare_data
    monkeypatch.setattr(LoopDataset, 'prepare_data', lambda self, idx: read.append(idx) or original(self, idx))
    runner = build(tmp_path / 'b', resume=str(tmp_path / 'a' / 'iter_6.pth'))
    train(runner)
    assert len(read) == 2 * 4


def test_epoch_loop_refuses_a_checkpoint_of_another_epoch_length(tmp_path):
    train(build(tmp_path / 'a', by_epoch=True, stop=2, interval=8))
    runner = build(
        tmp_path / 'b',
        by_epoch=True,
        stop=4,
        resume=str(tmp_path / 'a' / 'iter_8.pth'),
        batch_size=8,
        sampler=dict(type='DomainBalancedSampler', batch_size=8))
    with pytest.raises(ValueError, match='2 batches an epoch'):
        train(runner)


def test_loops_refuse_samplers_that_cannot_start_anywhere(tmp_path):
    for by_epoch in (False, True):
        with pytest.raises(TypeError, match='set_start'):
            build(tmp_path, by_epoch=by_epoch, sampler=dict(type='DefaultSampler', shuffle=True)).train()


def test_loops_refuse_a_batch_size_other_than_the_samplers(tmp_path):
    with pytest.raises(ValueError, match='batch_size is 8, but the batch_size of its sampler is 4'):
        build(tmp_path, batch_size=8).train()


def test_epoch_loop_refuses_an_infinite_sampler(tmp_path):
    with pytest.raises(ValueError, match='infinite=False'):
        build(tmp_path, by_epoch=True, infinite=True).train()


def test_keyed_random_hook_depends_on_iteration_and_seed_only():
    hook = HOOKS.build(dict(type='KeyedRandomHook'))

    class Stub:
        seed, iter = 3, 5

    def draw(seed, iteration):
        Stub.seed, Stub.iter = seed, iteration
        hook.before_train_iter(Stub, 0)
        return random.random(), np.random.random(), torch.rand(()).item()

    first = draw(3, 5)
    random.random(), np.random.random(), torch.rand(3)
    assert draw(3, 5) == first
    for other in (draw(3, 6), draw(4, 5)):
        assert all(a != b for a, b in zip(first, other))
