# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import copy
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

import mgcda
from mgcda.engine.hooks import MDATHook

BATCH = 4


class Pictures(Dataset):
    """16 fixed pictures, two of one domain, two of the other, and so on; every other one is of each rank of two."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.rand(3, 8, 8, generator=generator), data_samples=index // 2 % 2)


class AlignedModel(BaseModel):
    """The least that MDATHook needs: two convolutions with taps and a loss."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3, 2, 1)
        self.head = nn.Conv2d(8, 1, 1)
        self.alignment = None

    def set_alignment(self, alignment):
        self.alignment = alignment

    def init_weights(self):
        for param in self.parameters():
            nn.init.normal_(param, 0, .3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = torch.stack(inputs)
        feats = self.encoder(inputs).relu()
        logit = self.head(feats)
        if mode == 'predict':
            return [dict()] * len(inputs)
        losses = dict(loss_pixel=(logit - inputs.mean((1, 2, 3), keepdim=True)).square().mean())
        if self.alignment is not None:
            losses.update(self.alignment(dict(features=feats, anomaly_logit=logit), data_samples))
        return losses


class Unaligned(AlignedModel):
    set_alignment = property()  # hides the method: hasattr is False


class Deaf(AlignedModel):

    def set_alignment(self, alignment):
        pass


@MODELS.register_module(force=True)
class Pointwise(nn.Conv2d):
    """A classifier that sees one position at a time."""

    def __init__(self):
        super().__init__(8, 1, 1)


class Recorder(Hook):
    """Keeps the states before and after training and each iteration's outputs."""
    priority = 'LOWEST'

    def __init__(self, mdat=None):
        self.mdat = mdat
        self.outputs, self.rates, self.taus, self.weights = [], [], [], []

    def snapshot(self, runner):
        state = {key.replace('module.', '', 1): value.clone() for key, value in runner.model.state_dict().items()}
        if self.mdat is not None:
            state.update({f'mdat.{k}': v.clone() for k, v in self.mdat.discriminators.state_dict().items()})
        return state

    def before_train(self, runner):
        self.before = self.snapshot(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.outputs.append({key: value.item() for key, value in outputs.items()})
        if self.mdat is not None:
            self.rates.append(self.mdat.optim_wrapper.param_groups[0]['lr'])
            self.taus.append(self.mdat.tau)
        self.weights.append(self.snapshot(runner))

    def after_train(self, runner):
        self.after = self.snapshot(runner)


class Nothing(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(nothing=0)


def make_hook(**kwargs):
    options = dict(
        feature_classifier=dict(type='DomainClassifier', in_channels=8, channels=(6, 5)),
        output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(4, 6)),
        feature_weight=.4,
        output_weight=.6,
        log_interval=1)
    options.update(kwargs)
    return MDATHook(**options)


def make_runner(work_dir,
                hooks,
                max_iters=4,
                model=None,
                optimizer=dict(type='Adam', lr=1e-2),
                wrapper=None,
                seed=1,
                **kwargs):
    """A runner over the pictures; the name keeps the message hubs of several runners apart."""
    make_runner.count = getattr(make_runner, 'count', 0) + 1
    options = dict(
        model=model or AlignedModel(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Pictures(), sampler=dict(type='InfiniteSampler', shuffle=False), batch_size=BATCH, num_workers=0),
        optim_wrapper=dict(dict(type='OptimWrapper', optimizer=optimizer), **(wrapper or {})),
        train_cfg=dict(by_epoch=False, max_iters=max_iters, val_interval=1000),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1000),
            checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False)),
        custom_hooks=hooks,
        randomness=dict(seed=seed, deterministic=True),
        default_scope='mmseg',
        log_level='ERROR',
        experiment_name=f'mdat_{make_runner.count}')
    options.update(kwargs)
    return Runner(**options)


def train(work_dir, max_iters=4, hook=None, **kwargs):
    hook = make_hook() if hook is None else hook
    recorder = Recorder(hook)
    runner = make_runner(work_dir, [hook, recorder], max_iters, **kwargs)
    runner.train()
    return runner, hook, recorder


@pytest.fixture(autouse=True)
def restore_scope():
    yield
    DefaultScope._instance_dict.clear()


def batches(world_size, max_iters):
    """Indices of each rank's batch in each iteration."""
    for iteration in range(max_iters):
        start = iteration * BATCH * world_size
        yield [[(start + rank + world_size * i) % 16 for i in range(BATCH)] for rank in range(world_size)]


def reference(state, max_iters, world_size=1, every=1, lr=.1, tau_base=1.):
    """Gradient descent on both sides in one process, on the mean of the ranks' losses, from the paper's equations."""
    state = {key: value.cpu().double().requires_grad_() for key, value in state.items()}
    main = [key for key in state if not key.startswith('mdat.')]
    rival = [key for key in state if key.startswith('mdat.')]
    data = Pictures()

    def classify(stage, x):
        convs = sorted({key.rsplit('.', 1)[0] for key in rival if f'.{stage}.' in key})
        for index, conv in enumerate(convs):
            x = F.conv2d(x.relu() if index else x, state[f'{conv}.weight'], state[f'{conv}.bias'], padding=1)
        return x

    def distance(pred, labels):
        return sum((p - label).square().mean() for p, label in zip(pred, labels)) / (BATCH // 2)

    def step(keys, loss):
        grads = torch.autograd.grad(loss, [state[key] for key in keys])
        for key, grad in zip(keys, grads):
            totals[key] = totals.get(key, 0) + grad / every

    totals = {}
    for iteration, ranks in enumerate(batches(world_size, max_iters)):
        tau = tau_base - (tau_base - .5) * iteration / max_iters
        ours, theirs = 0, 0
        for indices in ranks:
            inputs = torch.stack([data[i]['inputs'] for i in indices]).double()
            feats = F.conv2d(inputs, state['encoder.weight'], state['encoder.bias'], 2, 1).relu()
            logit = F.conv2d(feats, state['head.weight'], state['head.bias'])
            true = [tau if i // 2 % 2 == 0 else 1 - tau for i in indices]
            ours = ours + (logit - inputs.mean((1, 2, 3), keepdim=True)).square().mean()
            taps = dict(feature=feats, output=1 / (1 + (-logit).exp()))
            for stage, weight in (('feature', .4), ('output', .6)):
                ours = ours + weight * distance(classify(stage, taps[stage]), [1 - label for label in true])
                theirs = theirs + distance(classify(stage, taps[stage].detach()), true)
        step(main, ours / world_size)
        step(rival, theirs / world_size)
        if (iteration + 1) % every == 0:
            with torch.no_grad():
                for key, grad in totals.items():
                    state[key] -= lr * grad
            totals = {}
    return {key: value.detach() for key, value in state.items()}


def assert_states_close(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            actual[key].double().cpu(), value.cpu(), rtol=1e-4, atol=1e-6, msg=lambda m: f'{key}: {m}')


SGD = dict(type='SGD', lr=.1)


@pytest.mark.parametrize('every', [1, 2])
def test_both_sides_against_reference(tmp_path, every):
    _, _, recorder = train(
        tmp_path, hook=make_hook(optimizer=SGD), optimizer=SGD, wrapper=dict(accumulative_counts=every))
    assert_states_close(recorder.after, reference(recorder.before, 4, every=every))
    assert set(recorder.outputs[0]) == {'loss', 'loss_pixel', 'loss_mda_feature', 'loss_mda_output'}
    changed = [key for key in recorder.after if not torch.equal(recorder.after[key], recorder.before[key])]
    assert changed == list(recorder.after)
    if every == 2:
        assert all(torch.equal(recorder.weights[0][key], recorder.before[key]) for key in recorder.before)


def test_each_side_leaves_the_other_alone(tmp_path):
    still = dict(type='SGD', lr=0.)
    _, _, frozen = train(tmp_path / 'a', hook=make_hook(optimizer=still))
    assert all(torch.equal(frozen.after[key], frozen.before[key]) == key.startswith('mdat.') for key in frozen.after)
    _, hook, frozen = train(tmp_path / 'b', optimizer=still)
    assert all(torch.equal(frozen.after[key], frozen.before[key]) != key.startswith('mdat.') for key in frozen.after)
    assert not any(param.requires_grad for param in hook.discriminators.parameters())


def test_network_starts_as_without_the_hook(tmp_path):
    _, _, recorder = train(tmp_path / 'a', 1)
    alone = Recorder()
    make_runner(tmp_path / 'b', [alone], 1).train()
    assert all(torch.equal(recorder.before[key], value) for key, value in alone.before.items())
    _, _, again = train(tmp_path / 'c', 1)
    assert all(torch.equal(again.before[key], value) for key, value in recorder.before.items())


@pytest.mark.parametrize('stage', ['feature', 'output'])
def test_one_classifier_and_a_constant_label(tmp_path, stage):
    other = 'output' if stage == 'feature' else 'feature'
    hook = make_hook(**{f'{other}_classifier': None}, dynamic_label=False, tau_base=.9)
    _, _, recorder = train(tmp_path, hook=hook)
    assert set(recorder.outputs[0]) == {'loss', 'loss_pixel', f'loss_mda_{stage}'}
    assert recorder.taus == [.9] * 4
    assert list(hook.discriminators) == [stage]


def test_label_and_rate_follow_the_run(tmp_path):
    schedule = [
        dict(type='LinearLR', start_factor=.5, begin=0, end=2, by_epoch=False),
        dict(type='PolyLR', power=.9, begin=2, end=4, by_epoch=False)
    ]
    hook = make_hook(optimizer=dict(type='Adam', lr=1e-3), tau_base=.9)
    main_rates = []

    class Rates(Hook):
        priority = 'NORMAL'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            main_rates.append(runner.optim_wrapper.param_groups[0]['lr'])

    recorder = Recorder(hook)
    make_runner(
        tmp_path, [hook, Rates(), recorder],
        param_scheduler=schedule,
        auto_scale_lr=dict(enable=True, base_batch_size=16)).train()
    assert recorder.taus == pytest.approx([.9, .8, .7, .6])
    assert main_rates[0] == pytest.approx(.5 * 1e-2 / 4) and len(set(main_rates)) > 2
    assert recorder.rates == pytest.approx([rate / 10 for rate in main_rates])


def test_log(tmp_path):
    runner, hook, recorder = train(tmp_path, hook=make_hook(log_interval=2))
    scalars = runner.message_hub.log_scalars
    assert list(scalars['train/mdat/tau'].data[0]) == pytest.approx([recorder.taus[1], recorder.taus[3]])
    for stage in ('feature', 'output'):
        assert len(scalars[f'train/mdat/{stage}_error'].data[0]) == 2
        accuracy = scalars[f'train/mdat/{stage}_accuracy'].data[0]
        assert len(accuracy) == 2 and all(0 <= value <= 1 for value in accuracy)
    spread = scalars['train/mdat/feature_std'].data[0]
    inputs = torch.stack([Pictures()[i]['inputs'] for i in range(BATCH, 2 * BATCH)])  # the second batch
    encoder = {key: recorder.weights[0][f'encoder.{key}'].cpu() for key in ('weight', 'bias')}
    feats = F.conv2d(inputs, encoder['weight'], encoder['bias'], 2, 1).relu()
    assert len(spread) == 2 and spread[0] == pytest.approx(feats.std().item(), rel=1e-5)


def test_accuracies_count_pixels_and_images(tmp_path):
    hook = make_hook(feature_classifier=None)
    runner = make_runner(tmp_path, [hook])
    pred = torch.tensor([[[[.9, .4]]], [[[.6, .1]]], [[[.1, .2]]]])  # means of the images .65, .35, .15
    hook._log(runner, dict(output=pred), dict(output=torch.tensor(2.)), [0, 1, 1])
    logged = {
        name: runner.message_hub.get_scalar(f'train/mdat/output_{name}').current()
        for name in ('accuracy', 'image_accuracy')
    }
    assert logged == pytest.approx(dict(accuracy=4 / 6, image_accuracy=1))
    hook.valid_only = True
    valid = torch.tensor([[[True, False]], [[True, False]], [[False, False]]])
    hook._log(runner, dict(output=pred), dict(output=torch.tensor(2.)), [0, 1, 1], valid)
    for name in ('accuracy', 'image_accuracy'):
        assert runner.message_hub.get_scalar(f'train/mdat/output_{name}').current() == pytest.approx(1 / 2)


class Labelled(AlignedModel):
    """Hands on a target of its own whose lower half is ignored."""

    def set_alignment(self, alignment, reads_target=False):
        target = torch.zeros(BATCH, 8, 8, dtype=torch.int64)
        target[:, 4:] = 255
        self.alignment = alignment and (lambda taps, domains: alignment(
            dict(features=self.change(taps['features']), anomaly_logit=self.change(taps['anomaly_logit'])), domains,
            target.to(taps['features'].device))) if reads_target else alignment

    def change(self, feats):
        return feats


class Spoiled(Labelled):
    """The features of what is ignored are others."""

    def change(self, feats):
        return torch.cat([feats[:, :, :2], feats[:, :, 2:] * 5 + 3], dim=2)


def test_only_valid_positions_teach(tmp_path):
    ends = []
    for model in (Labelled(), Spoiled()):
        hook = make_hook(valid_only=True, feature_classifier=dict(type='Pointwise'), output_classifier=None)
        _, _, recorder = train(tmp_path / type(model).__name__, model=model, hook=hook)
        ends.append(recorder.after)
    assert all(torch.equal(ends[0][key], value) for key, value in ends[1].items())


@pytest.mark.parametrize('dynamic', [True, False])
def test_label_of_a_resumed_run_without_smoothing_is_the_configs(tmp_path, dynamic):
    train(tmp_path / 'a', 2)
    hook = make_hook(dynamic_label=dynamic, tau_base=.8)
    _, _, recorder = train(tmp_path / 'b', hook=hook, load_from=str(tmp_path / 'a' / 'iter_2.pth'), resume=True)
    assert recorder.taus == pytest.approx([.65, .575] if dynamic else [.8, .8])


@pytest.mark.parametrize('every', [1, 2])
def test_resume_is_bitwise(tmp_path, every):
    schedule = [dict(type='PolyLR', power=.9, begin=0, end=4, by_epoch=False)]
    options = dict(param_scheduler=schedule, wrapper=dict(accumulative_counts=every))
    whole_runner, whole, one_go = train(tmp_path / 'a', **options)
    _, hook, second = train(
        tmp_path / 'b', load_from=str(tmp_path / 'a' / 'iter_2.pth'), resume=True, seed=7, **options)
    assert second.outputs == one_go.outputs[2:]
    assert second.taus == one_go.taus[2:] and second.rates == one_go.rates[2:]
    assert all(torch.equal(second.after[key], value) for key, value in one_go.after.items())
    states = [h.optim_wrapper.state_dict() for h in (whole, hook)]
    assert states[0]['param_groups'] == states[1]['param_groups']
    for index, state in states[0]['state'].items():
        assert all(torch.equal(value, states[1]['state'][index][name]) for name, value in state.items())


def test_state_is_plain_and_only_resumed(tmp_path):
    _, first, _ = train(tmp_path / 'a', 2)
    checkpoint = torch.load(tmp_path / 'a' / 'iter_2.pth', weights_only=True)
    assert not [key for key in checkpoint['state_dict'] if 'discriminator' in key or 'mdat' in key]
    state = checkpoint['mdat']
    assert set(state) == {'discriminators', 'optimizer', 'tau'} and state['tau'] == .75
    torch.save(state, tmp_path / 'state.pth')
    torch.load(tmp_path / 'state.pth', weights_only=True)
    for stage, weights in state['discriminators'].items():
        for name, value in first.discriminators[stage].state_dict().items():
            assert torch.equal(weights[name], value.cpu())

    _, _, fresh = train(tmp_path / 'b', 1)
    _, _, loaded = train(tmp_path / 'c', 1, load_from=str(tmp_path / 'a' / 'iter_2.pth'))
    assert all(torch.equal(loaded.before[key], fresh.before[key]) == key.startswith('mdat.') for key in fresh.before)


def test_classifiers_that_are_not_finite_are_not_saved(tmp_path):
    runner, hook, _ = train(tmp_path, 1)
    next(hook.discriminators['output'].parameters()).data[0] = float('nan')
    with pytest.raises(ValueError, match='weights of output_classifier are not finite'):
        hook.before_save_checkpoint(runner, {})


def test_resume_refuses_other_checkpoints(tmp_path):
    make_runner(tmp_path / 'a', [], 2).train()
    with pytest.raises(ValueError, match="no 'mdat'"):
        train(tmp_path / 'b', load_from=str(tmp_path / 'a' / 'iter_2.pth'), resume=True)
    train(tmp_path / 'c', 2)
    path = str(tmp_path / 'c' / 'iter_2.pth')
    wider = make_hook(output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(4, 8)))
    for hook in (wider, make_hook(feature_classifier=None)):
        with pytest.raises(ValueError, match='other domain classifiers'):
            train(tmp_path / 'd', hook=hook, load_from=path, resume=True)


def test_moving_average_shares_the_hook(tmp_path):
    hook, average = make_hook(), EMAHook()
    recorder = Recorder(hook)
    make_runner(tmp_path / 'a', [hook, average, recorder]).train()
    assert average.ema_model.module.alignment.__self__ is hook
    _, _, without = train(tmp_path / 'b')
    assert all(torch.equal(recorder.after[key], value) for key, value in without.after.items())


def test_model_is_left_without_alignment(tmp_path):
    runner, hook, _ = train(tmp_path, 1)
    assert runner.model.alignment is None
    assert copy.deepcopy(hook) is hook


def test_testing_builds_nothing(tmp_path):
    hook = make_hook()
    loader = dict(dataset=Pictures(), sampler=dict(type='DefaultSampler', shuffle=False), batch_size=4, num_workers=0)
    runner = make_runner(tmp_path, [hook], test_dataloader=loader, test_cfg=dict(), test_evaluator=Nothing())
    runner.test()
    assert hook.discriminators is None and runner.model.alignment is None


@pytest.mark.parametrize('model, error, message', [(Unaligned, TypeError, 'Unaligned has none'),
                                                   (Deaf, RuntimeError, 'did not call its alignment')])
def test_models_that_do_not_align(tmp_path, model, error, message):
    with pytest.raises(error, match=message):
        train(tmp_path, model=model())


def test_several_optimizers_are_refused(tmp_path):
    model = AlignedModel()
    wrappers = OptimWrapperDict(
        a=OptimWrapper(torch.optim.SGD(model.encoder.parameters(), lr=.1)),
        b=OptimWrapper(torch.optim.SGD(model.head.parameters(), lr=.1)))
    with pytest.raises(TypeError, match='OptimWrapperDict'):
        make_runner(tmp_path, [make_hook()], model=model, optim_wrapper=wrappers).train()


@pytest.mark.parametrize('kwargs, message', [
    (dict(feature_classifier=None, output_classifier=None), 'must be given'),
    (dict(feature_weight=-1), 'feature_weight'),
    (dict(output_weight=float('nan')), 'output_weight'),
    (dict(tau_base=.4), 'tau_base'),
    (dict(tau_base=1.1), 'tau_base'),
    (dict(optimizer=dict(type='Adam')), 'optimizer'),
    (dict(log_interval=0), 'log_interval'),
])
def test_options_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_hook(**kwargs)


@pytest.mark.parametrize('name, network', [('mgcda_cityscapes', 1e-4), ('ablation/oda', 1e-4), ('ablation/mdat', 1e-4),
                                           ('plugin/pebal_r50', None), ('toy/mgcda', 1e-3), ('toy/mgcda_pebal', 5e-4),
                                           ('studies/cityscapes256/mgcda', 5e-4),
                                           ('studies/cityscapes256/mgcda_pebal', 5e-4)])
def test_rate_of_the_classifiers_is_an_option_of_each_config(name, network):
    cfg = Config.fromfile(Path(mgcda.__file__).parents[2] / f'configs/{name}.py')
    assert cfg.default_hooks.mdat.optimizer.lr == (network or 1e-4)
    assert network in (None, cfg.optim_wrapper.optimizer.lr)
    cfg.merge_from_dict({'default_hooks.mdat.optimizer.lr': 3e-4})
    assert HOOKS.build(cfg.default_hooks.mdat).optimizer == dict(type='Adam', lr=3e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='AmpOptimWrapper cannot be built without a GPU')
@pytest.mark.parametrize('scale', ['dynamic', 128., dict(init_scale=64., growth_interval=2)])
def test_mixed_precision(tmp_path, scale):
    _, hook, recorder = train(tmp_path, wrapper=dict(type='AmpOptimWrapper', loss_scale=scale, dtype='float16'))
    assert type(hook.optim_wrapper) is AmpOptimWrapper and hook.optim_wrapper.cast_dtype == torch.float16
    expected = 256. if isinstance(scale, dict) else {'dynamic': 2.**16, 128.: 128.}[scale]
    assert hook.optim_wrapper.loss_scaler.get_scale() == expected
    for key, value in recorder.after.items():
        assert value.isfinite().all() and not torch.equal(value, recorder.before[key])


RANK_CASES = [  # iterations a step, whether the ranks are seeded differently
    (1, True), (2, False)
]


def run_rank(rank, folder):
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group('gloo', f'file://{folder}/init', rank=rank, world_size=2)
    ddp = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    for every, diff_rank_seed in RANK_CASES:
        hook = make_hook(optimizer=SGD)
        recorder = Recorder(hook)
        runner = make_runner(
            folder, [hook, recorder],
            optimizer=SGD,
            launcher='pytorch',
            cfg=dict(model_wrapper_cfg=ddp),
            randomness=dict(seed=3, diff_rank_seed=diff_rank_seed),
            wrapper=dict(accumulative_counts=every))
        runner.train()
        states = dict(before=recorder.before, after=recorder.after, seed=runner.seed)
        torch.save(states, f'{folder}/{every}_{rank}.pth')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_ranks_train_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), ), nprocs=2)
    for every, diff_rank_seed in RANK_CASES:
        ranks = [torch.load(tmp_path / f'{every}_{rank}.pth') for rank in range(2)]
        assert (ranks[0]['seed'] != ranks[1]['seed']) == diff_rank_seed
        for moment in ('before', 'after'):
            for key, value in ranks[0][moment].items():
                assert torch.equal(value, ranks[1][moment][key]), (moment, key)
        assert_states_close(ranks[0]['after'], reference(ranks[0]['before'], 4, world_size=2, every=every))
