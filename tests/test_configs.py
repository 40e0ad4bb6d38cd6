# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Every config: its model trains and predicts, its pipelines read files in the layouts that it names."""
import copy
import inspect
from ast import literal_eval
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from official_layouts import IMAGE_SIZE, write_layouts
from torch import Tensor, nn

from mgcda.labels import ANOMALY, IGNORE, NORMAL, OUTLIER
from mgcda.scores import FittedScore, ScoreFitter

ROOT = Path(__file__).resolve().parents[1]
SIZE = (32, 64)
TEST_SIZE = (64, 96)


def find_configs() -> list[str]:
    """Configs that describe a run or a network, not a part of one, nor a study of several."""
    paths = (path.relative_to(ROOT / 'configs') for path in (ROOT / 'configs').rglob('*.py'))
    return sorted(path.as_posix() for path in paths if '_base_' not in path.parts and path.parent.name != 'studies')


CONFIGS = find_configs()


@cache
def _read(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / name)


def load(name: str) -> Config:
    return copy.deepcopy(_read(name))


def dicts_of(node: Any) -> Iterator[dict]:
    """All dicts inside a config."""
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    for child in children:
        yield from dicts_of(child)


def test_no_config_is_left_out() -> None:
    expected = {
        'mgcda_cityscapes.py', 'ablation/baseline_void-class.py', 'ablation/baseline_anomaly-mix.py',
        'ablation/baseline_mix.py', 'ablation/oda.py', 'ablation/oda_fda.py', 'ablation/mdat.py',
        'ablation/mdat_pcl.py', 'ablation/mdat_cpcl.py', 'ablation/cacl.py', 'mgcda/mgcda_r50_cityscapes.py',
        'mgcda/mgcda_mit-b2_cityscapes.py', 'mgcda/mgcda_convnext-t_cityscapes.py',
        'mgcda/mgcda_dinov2-b_cityscapes.py', 'mgcda/mgcda_online_cityscapes.py',
        'mgcda/mgcda_do-downsample4_cityscapes.py', 'mgcda/mgcda_log-eq3_cityscapes.py',
        'mgcda/mgcda_printed-eq3_cityscapes.py', 'toy/segmenter.py', 'toy/generator.py', 'toy/baseline.py',
        'toy/mgcda.py', 'toy/entropy.py', 'studies/cityscapes256/generator.py', 'studies/cityscapes256/baseline.py',
        'studies/cityscapes256/mgcda.py', 'spade/spade_cityscapes-256x512.py',
        'spade/spade-light_cityscapes-128x256.py', 'espnetv2/espnetv2_cityscapes-1024x512.py',
        'espnetv2/espnetv2_entropy_road-anomaly.py', 'synboost/synboost_processed.py',
        'synboost/synboost_void_cityscapes.py', 'synboost/synboost_cityscapes.py',
        'image_resynthesis/image-resynthesis_cityscapes.py', 'image_resynthesis/image-resynthesis-pp_cityscapes.py',
        'pix2pixhd/pix2pixhd_cityscapes-512x1024.py', 'deeplabv3plus/deeplabv3plus_r101-d8_cityscapes-512x1024.py',
        *(f'deeplabv3plus/{name}_deeplabv3plus_r101-d8.py'
          for name in ('scores', 'odin', 'react', 'sml', 'mahalanobis', 'knn', 'single-layer-nll', 'minimum-nll',
                       'logistic-regression', 'mc-dropout', 'ensemble')),
        'outlier_head/outlier-head-negatives_deeplabv3plus_r101-d8.py',
        *(f'{name.replace("-", "_")}/{name}_{network}.py'
          for name in ('void-class', 'max-entropy', 'outlier-head', 'dirichlet', 'pebal', 'dense-hybrid', 'gmmseg')
          for network in ('deeplabv3plus_r101-d8', 'segformer_mit-b2', 'upernet_r50')),
        *(f'plugin/{name}_{backbone}.py' for name in ('outlier-head', 'pebal', 'dense-hybrid')
          for backbone in ('vgg16', 'r50', 'mit-b2', 'convnext-t', 'dinov2-b')),
        *(f'studies/cityscapes256/{name}.py' for name in ('baseline_void-class', 'baseline_anomaly-mix', 'oda',
                                                          'oda_fda', 'mdat', 'mdat_pcl', 'mdat_cpcl', 'cacl')),
        *(f'{folder}/{name}.py' for folder in ('toy', 'studies/cityscapes256')
          for name in ('scores', 'mc-dropout', 'ensemble', 'pix2pixhd', 'image-resynthesis', 'image-resynthesis-pp',
                       'synboost', 'void-class', 'max-entropy', 'outlier-head', 'outlier-head-negatives', 'dirichlet',
                       'pebal', 'dense-hybrid', 'gmmseg', 'mgcda_outlier-head', 'mgcda_pebal', 'mgcda_dense-hybrid'))
    }
    assert expected <= set(CONFIGS)
    assert all('model' in load(name) for name in CONFIGS)


# ---------------------------------------------------------------- models


@DATASETS.register_module()
class RandomSamples(torch.utils.data.Dataset):
    """Two packed samples of noise, one a domain, with every kind of label."""

    metainfo: dict[str, Any] = {}

    def __init__(self, channels: int, labels: list[int], domains: list[int]) -> None:
        self.channels, self.labels, self.domains = channels, labels, domains
        self.domain_sizes = tuple(domains.count(domain) for domain in sorted(set(domains)))

    def __len__(self) -> int:
        return len(self.domains)

    def __getitem__(self, index: int) -> dict:
        return random_sample(self.channels, SIZE, self.labels, domain=self.domains[index])


def random_sample(channels: int, size: tuple, labels: list[int], **metainfo: Any) -> dict:
    generator = torch.Generator().manual_seed(metainfo.get('domain', 2))
    inputs = torch.randint(0, 256, (channels, *size), dtype=torch.uint8, generator=generator)
    if channels == 10:
        inputs[6] %= 19
    label = torch.tensor(labels)[torch.randint(len(labels), (1, *size), generator=generator)]
    sample = SegDataSample(
        metainfo=dict(img_shape=size, pad_shape=size, ori_shape=size, reduce_zero_label=False, **metainfo))
    sample.gt_sem_seg = PixelData(data=label)
    return dict(inputs=inputs, data_samples=sample)


class GradientRecorder(Hook):
    """Notes which parameters received a gradient, and the domain classifiers as they were."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received: dict[str, bool] = {}

    def before_train(self, runner: Runner) -> None:
        for name, param in runner.model.named_parameters():
            if param.requires_grad:
                param.register_post_accumulate_grad_hook(
                    lambda param, name=name: self.received.update({name: bool(param.grad.sum().isfinite())}))
        mdat = find_hook(runner, 'MDATHook')
        self.classifiers = {} if mdat is None else copy_of(mdat.discriminators)


def find_hook(runner: Runner, name: str) -> Any:
    return next((hook for hook in runner.hooks if type(hook).__name__ == name), None)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: param.detach().clone() for name, param in module.named_parameters()}


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads only get in each other's way on inputs this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_model(cfg: Config) -> nn.Module:
    """The model of a config without its downloads, for small inputs."""
    model = cfg.model
    for node in dicts_of(model):
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            node['init_cfg'] = None
    if model.data_preprocessor.type == 'SegDataPreProcessor' and 'size_divisor' not in model.data_preprocessor:
        model.data_preprocessor.size = SIZE
    if 'work_size' in model:
        model.work_size = SIZE
    if model.get('backbone', {}).get('depth') == 101:  # smaller networks, to save time
        model.backbone.depth = 50
    if model.get('decode_head', {}).get('channels') == 512:
        model.decode_head.channels = 64
    if model.get('generator', {}).get('type') == 'Pix2PixHDGenerator':
        model.generator.base_channels = 8  # not 183 million parameters
    for member in model.get('members', []):
        member.checkpoint = None
    for score in [model.get('score'), *(model.get('scores') or [])]:
        if isinstance(score, dict):
            score.pop('fitted', None)
            if score.type == 'FlowNLL':
                score.update(num_iters=2, num_steps=1, hidden_channels=8)
    return MODELS.build({key: value for key, value in model.items() if key != 'frozen'})


@pytest.fixture(scope='module')
def add_frozen_networks() -> Iterator[Callable[[nn.Module, Config], None]]:
    """Gives a model the frozen networks of its config; configs that have the same share them."""
    built: dict[str, nn.Module] = {}

    def add(model: nn.Module, cfg: Config) -> None:
        frozen = cfg.model.get('frozen')
        if frozen is not None:
            frozen.segmenter.checkpoint = frozen.generator.checkpoint = None
            if 'pix2pixhd' in frozen.generator.config:  # not 183 million parameters
                frozen.generator.config = 'configs/toy/generator.py'
            frozen.segmenter_size = frozen.generator_size = SIZE
            key = dump(frozen)
            built[key] = built[key] if key in built else MODELS.build(frozen)
            model.frozen = built[key].to(next(model.parameters()).device)

    yield add
    built.clear()


def tiny_runner(cfg: Config, model: nn.Module, work_dir: Path) -> Runner:
    """A run of one iteration with the config's optimizer, schedule, loop and hooks, on noise."""
    left_out = {'self', 'cfg', 'model', 'work_dir', 'launcher', 'load_from'}
    known = set(inspect.signature(Runner.__init__).parameters) - left_out
    settings = {
        key: value
        for key, value in cfg.items() if key in known and value and not key.startswith(('val_', 'test_'))
    }
    settings.setdefault('default_scope', 'mmseg')
    settings.setdefault('train_cfg', dict(type='IterBasedTrainLoop', max_iters=1))
    settings.setdefault('optim_wrapper', dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)))
    settings['train_cfg'].pop('val_interval', None)
    settings['train_cfg']['max_epochs' if 'max_epochs' in settings['train_cfg'] else 'max_iters'] = 1
    for scheduler in settings.get('param_scheduler', []):
        if scheduler['type'] == 'LinearLR':  # a warm-up whose first step changes nothing
            scheduler['start_factor'] = 1.0
    settings['default_hooks'] = {**settings.get('default_hooks', {}), 'checkpoint': None}
    settings['env_cfg'] = dict(dist_cfg=dict(backend='gloo'))
    settings['train_dataloader'] = tiny_dataloader(cfg)
    return Runner(model=model, work_dir=str(work_dir), experiment_name='tiny', launcher='none', **settings)


def tiny_dataloader(cfg: Config) -> dict:
    labels = [NORMAL, ANOMALY, IGNORE] if cfg.model.type == 'DissimilaritySegmentor' else [0, 7, 18, IGNORE]
    if trains_with_outliers(cfg):
        labels.append(OUTLIER)
    loader = cfg.get('train_dataloader') or {}
    sampler = loader.get('sampler', dict(type='InfiniteSampler'))
    domains = [0, 1]
    if sampler['type'] == 'DomainBalancedSampler':
        num_domains = len(loader.dataset.datasets)
        domains = [0, 1] if num_domains == 2 else [0, 0]
        sampler = dict(sampler, batch_size=2, num_per_domain=2 // num_domains)
    return dict(
        batch_size=2,
        num_workers=0,
        sampler=sampler,
        dataset=dict(type='RandomSamples', channels=train_channels(cfg), labels=labels, domains=domains))


def train_channels(cfg: Config) -> int:
    """Channels of the training samples: with maps, or the image alone."""
    steps = {node.get('type') for node in dicts_of(cfg.get('train_dataloader'))}
    return 10 if 'LoadDissimilarityMaps' in steps else 3


def trains_with_outliers(cfg: Config) -> bool:
    """Whether outliers stand among the classes of the training labels."""
    nodes = [node for node in dicts_of(cfg.get('train_dataloader')) if node.get('targets') == 'classes']
    return any(node['type'] != 'VoidClassDataset' or node.get('anomaly_ids') != () for node in nodes)


def is_trained(name: str) -> bool:
    """Whether a config trains; the others score a segmenter that is trained elsewhere."""
    cfg = load(name)
    return bool(cfg.get('train_dataloader')) or cfg.model.type == 'EncoderDecoder'


def fit(model: nn.Module) -> None:
    """Fit what is to be fitted, on noise."""
    if any(score.needs_fit for score in model.scores.values()):
        fitter = ScoreFitter(model)
        for domain in range(3):
            fitter.update(collate(random_sample(3, TEST_SIZE, [0, 7, 18, IGNORE], domain=domain)))
        for score in fitter.scores.values():
            score.finish()
        for score in model.scores.values():  # of those that share their statistics, one was fitted
            if isinstance(score, FittedScore) and not score.ready:
                twin, = (other for other in fitter.scores.values() if other.shares_statistics(score))
                score.load_parameters(twin.parameters())


@pytest.mark.parametrize('name', [name for name in CONFIGS if not is_trained(name)])
def test_config_of_a_trained_segmenter_predicts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    cfg = load(name)
    model = revert_sync_batchnorm(tiny_model(cfg)).eval()
    fit(model)
    check_prediction(cfg, model)


@pytest.mark.parametrize('name', [name for name in CONFIGS if is_trained(name)])
def test_config_trains_and_predicts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    add_frozen_networks: Callable[[nn.Module, Config], None]) -> None:
    monkeypatch.chdir(ROOT)  # frozen networks are named by configs relative to it
    torch.manual_seed(0)
    cfg = load(name)
    runner = tiny_runner(cfg, tiny_model(cfg), tmp_path)
    model = runner.model
    if train_channels(cfg) == 3:
        add_frozen_networks(model, cfg)
    recorder = GradientRecorder()
    runner.register_hook(recorder)
    runner.train()
    assert runner.iter == 1

    trainable = {param_name for param_name, param in model.named_parameters() if param.requires_grad}
    assert trainable - set(recorder.received) == set()
    assert all(recorder.received.values())
    if cfg.model.get('tuned'):
        assert all(param_name.startswith((*cfg.model.tuned, 'train_only')) for param_name in trainable)
    mdat = find_hook(runner, 'MDATHook')
    assert (mdat is not None) == ('mdat' in cfg.get('default_hooks', {}))
    if mdat is not None:
        assert recorder.classifiers
        for param_name, param in mdat.discriminators.named_parameters():
            assert not param.equal(recorder.classifiers[param_name]), param_name

    model.eval()
    add_frozen_networks(model, cfg)
    check_prediction(cfg, model)


def check_prediction(cfg: Config, model: nn.Module) -> None:
    with torch.no_grad():
        result, = model.test_step(collate(random_sample(3, TEST_SIZE, [0, 1])))
    if cfg.model.type == 'Resynthesizer':
        assert result.synthesis.data.shape[0] == 3 and result.synthesis.data.dtype == torch.uint8
    elif cfg.model.type == 'EncoderDecoder':
        assert result.seg_logits.data.shape == (19, *TEST_SIZE) and result.seg_logits.data.isfinite().all()
    else:
        scores = result.anomaly_scores.data
        assert scores.shape == (len(cfg.model.get('scores') or [0]), *TEST_SIZE)
        assert scores.dtype == torch.float32 and scores.isfinite().all()
        assert all(one.unique().numel() > 1 for one in scores)


def collate(sample: dict) -> dict:
    return {key: [value] for key, value in sample.items()}


# ---------------------------------------------------------------- pipelines


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all data sets below ``data/``, where the configs look for them."""
    root = tmp_path_factory.mktemp('data_sets')
    write_layouts(root)
    return root


@cache
def read_training_batch(loader: str, preprocessor: str) -> dict[str, Any]:
    """What a training batch holds; configs that read the same share the reading."""
    packed = MODELS.build(literal_eval(preprocessor))(next(iter(build_loader(loader))), training=True)
    inputs, samples = packed['inputs'], packed['data_samples']
    assert inputs.dtype == torch.float32 and inputs.isfinite().all()
    facts = dict(
        shape=tuple(inputs.shape),
        labels=[set(np.unique(sample.gt_sem_seg.data).tolist()) for sample in samples],
        label_sizes={tuple(sample.gt_sem_seg.data.shape)
                     for sample in samples},
        domains=[sample.get('domain') for sample in samples])
    if inputs.shape[1] == 10:
        facts['semantic'] = set(np.unique(inputs[:, 6]).tolist())
        facts['map_ranges'] = [(inputs[:, i].min().item(), inputs[:, i].max().item()) for i in (7, 8, 9)]
    return facts


@cache
def read_all(loader: str, preprocessor: str) -> list[SegDataSample]:
    """The samples of a dataloader for testing, image by image."""
    preprocess = MODELS.build(literal_eval(preprocessor))
    batches = [preprocess(batch, training=False) for batch in build_loader(loader)]
    assert all(len(batch['data_samples']) == 1 for batch in batches)
    return [batch['data_samples'][0] for batch in batches]


def build_loader(text: str) -> torch.utils.data.DataLoader:
    return Runner.build_dataloader({**literal_eval(text), 'num_workers': 0, 'persistent_workers': False}, seed=0)


def dump(node: dict) -> str:
    """A config as text that tells tuples from lists."""
    return repr(node.to_dict())


#: Data sets of each kind of config's test, in the order of their samples.
BENCHMARKS = dict(
    all=[
        *np.repeat(['RoadAnomaly', 'FS_LostAndFound', 'FS_Static', 'RoadAnomaly21', 'RoadObstacle21'], 2),
        *['LostAndFound_test'] * 1203, *['LostAndFound_testNoKnown'] * 1043
    ],
    paper=['FS_LostAndFound', 'FS_LostAndFound', 'FS_Static', 'FS_Static', 'RoadAnomaly', 'RoadAnomaly'],
    cityscapes256=['RoadAnomaly', 'RoadAnomaly'],
    espnetv2=['RoadAnomaly', 'RoadAnomaly'],
    toy=['ToyRoadAnomaly', 'ToyRoadAnomaly', 'ToyFishyscapes', 'ToyFishyscapes'])


@pytest.mark.parametrize('name', CONFIGS)
def test_pipelines_read_the_layouts(name: str, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data_root)
    cfg = load(name)
    preprocessor = dump(cfg.model.data_preprocessor)
    assert cfg.get('test_dataloader') or name.startswith('deeplabv3plus/')
    if cfg.get('fit_dataloader'):
        loader = dict(cfg.fit_dataloader.to_dict(), sampler=dict(type='DefaultSampler', shuffle=False))
        sample = read_all(repr(loader), preprocessor)[0]
        assert {*np.unique(sample.gt_sem_seg.data)} <= {*range(19), IGNORE} and sample.ori_shape == IMAGE_SIZE
    if cfg.get('train_dataloader'):
        check_training_batch(name, cfg, read_training_batch(dump(cfg.train_dataloader), preprocessor))
    for part in ('val', 'test'):
        if cfg.get(f'{part}_dataloader'):
            assert cfg.get(f'{part}_cfg') and f'{part}_evaluator' in cfg
            check_samples(name, cfg, part, read_all(dump(cfg[f'{part}_dataloader']), preprocessor))


def check_training_batch(name: str, cfg: Config, facts: dict[str, Any]) -> None:
    batch_size, (height, width) = cfg.train_dataloader.batch_size, facts['shape'][2:]
    assert facts['shape'][:2] == (batch_size, train_channels(cfg))
    assert facts['label_sizes'] == {(1, height, width)}
    if cfg.model.type != 'DissimilaritySegmentor':
        labels = set.union(*facts['labels'])
        assert {*labels} - {*range(19), IGNORE} == ({OUTLIER} if trains_with_outliers(cfg) else set())
        assert len(labels) > 3
        return
    online = 'online' in name
    crops = [node['crop_size'] for node in dicts_of(cfg.train_dataloader) if node.get('type') == 'RandomCrop']
    assert (height, width) == (IMAGE_SIZE if online else tuple(crops[0] if crops else cfg.model.work_size))
    num_domains = len(cfg.train_dataloader.dataset.datasets)
    half = batch_size // 2
    assert facts['domains'] == ([0] * half + [1] * half if num_domains == 2 else [int('anomaly-mix' in name)] *
                                batch_size)
    for domain in set(facts['domains']):  # each domain has anomalies of its own
        of_domain = [labels for labels, other in zip(facts['labels'], facts['domains']) if other == domain]
        assert set.union(*of_domain) == {NORMAL, ANOMALY, IGNORE}
    if not online:
        assert facts['semantic'] == {0, 2, 10, 18, IGNORE}
        if cfg.model.decode_head.get('uncertainty', True):
            assert all(0 <= low < 0.1 and 0.9 < high <= 1 for low, high in facts['map_ranges'])
        else:
            assert facts['map_ranges'] == [(0, 0)] * 3


def check_samples(name: str, cfg: Config, part: str, samples: list[SegDataSample]) -> None:
    if cfg.model.type in ('EncoderDecoder', 'Resynthesizer'):
        assert len(samples) == 2
        return
    kind = 'all' if 'all-benchmarks' in name else Path(name).parent.name
    expected = list(BENCHMARKS.get(kind, BENCHMARKS['paper']))
    if any(node.get('type') == 'ClassLabelDataset' for node in dicts_of(cfg.test_dataloader)):  # the mIoU beside
        expected += ['ToyCityscapes' if kind == 'toy' else 'Cityscapes'] * 2
    found = [sample.dataset_name for sample in samples]
    held_out = {'ToyVoidClass', 'VoidClass256'}  # void pixels of validation images
    assert found == expected if part == 'test' else found and set(found) <= {*expected, *held_out}
    evaluators = cfg[f'{part}_evaluator']
    assert (evaluators[0] if isinstance(evaluators, list) else evaluators).type == 'AnomalyMetric'
    for sample in samples:
        label = sample.gt_sem_seg.data
        assert label.shape == (1, *IMAGE_SIZE) and tuple(sample.ori_shape) == IMAGE_SIZE
        values = {NORMAL, ANOMALY} if sample.dataset_name.endswith('RoadAnomaly') else {NORMAL, ANOMALY, IGNORE}
        if 'label_classes' in sample:
            assert {IGNORE} < set(np.unique(label)) <= {*range(len(sample.label_classes)), IGNORE}
        else:
            assert set(np.unique(label)) == values


@pytest.mark.parametrize('name', CONFIGS)
def test_files_that_a_config_names_exist(name: str) -> None:
    """The frozen networks are named by configs relative to the root of the repository."""
    model = load(name).model
    named = [node['config'] for node in dicts_of(model) if 'config' in node]
    assert (len(named) > 0) == (model.type in ('DissimilaritySegmentor', 'EnsembleAnomalySegmentor'))
    for config in named:
        assert (ROOT / config).is_file() and (ROOT / config).relative_to(ROOT / 'configs').as_posix() in CONFIGS
