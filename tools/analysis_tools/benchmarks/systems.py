# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The systems that train with outliers: their configs, and the same networks without them."""
import argparse
import gc
import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmseg.registry import MODELS

from mgcda.models.decode_heads.gmm_head import GMMHeadMixin
from mgcda.models.segmentors.anomaly_mixin import AnomalyMixin

from .common import without_downloads
from .iterations import Bench, make_batch, mdat_hook, seconds_in_turns

Seconds = dict[str, list[float]]
Megabytes = dict[str, float]

METHODS = ('void-class', 'max-entropy', 'outlier-head', 'dirichlet', 'pebal', 'dense-hybrid', 'gmmseg')
#: Methods that MGCDA is a plug-in to.
HOSTS = ('outlier-head', 'pebal', 'dense-hybrid')


def _paths(network: str) -> list[str]:
    return [f'configs/{method.replace("-", "_")}/{method}_{network}.py' for method in METHODS]


#: Configs of all systems over a network.
SYSTEMS: dict[str, list[str]] = {
    'toy': [f'configs/toy/{name}.py' for name in (*METHODS, *(f'mgcda_{host}' for host in HOSTS))],
    'deeplabv3plus': _paths('deeplabv3plus_r101-d8'),
    'segformer': [*_paths('segformer_mit-b2'), *(f'configs/plugin/{host}_mit-b2.py' for host in HOSTS)],
    'upernet': _paths('upernet_r50')
}
#: That of MMSegmentation's configs.
AUXILIARY_LOSS = dict(type='PixelCrossEntropyLoss', loss_weight=0.4)
#: One for all, so that only the methods differ.
OPTIMIZER = dict(type='AdamW', lr=1e-5)


def read_systems(names: list[str]) -> dict[str, Config]:
    """Configs of systems, by folder and stem.

    ``names``: paths, and keys of ``SYSTEMS``.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    configs: dict[str, Config] = {}
    for name in names:
        for path in SYSTEMS.get(name, [name]):
            if not Path(path).is_file():
                raise FileNotFoundError(f'{path} is no config; --systems takes paths of configs, and any '
                                        f'of {", ".join(SYSTEMS)}')
            configs['/'.join(Path(path).with_suffix('').parts[-2:])] = Config.fromfile(path)
    return configs


def plain_model(cfg: Config) -> dict:
    """The model of a system without its method: an EncoderDecoder with cross-entropy, all of whose weights are trained.

    Raises:
        ValueError: If the config is not that of an AnomalySegmentor.
    """
    if cfg.get('model', {}).get('type') != 'AnomalySegmentor':
        raise ValueError(f'{cfg.filename} must be the config of an AnomalySegmentor; the dissimilarity network is '
                         'compared with its baseline, without --systems')
    model = _without(AnomalyMixin, cfg.model.to_dict())
    head = model['decode_head']
    if issubclass(MODELS.get(head['type']), GMMHeadMixin):
        head = _without(GMMHeadMixin, head)
    model['decode_head'] = dict(head, loss_decode=dict(type='PixelCrossEntropyLoss'))
    if model.get('auxiliary_head'):  # some methods change its loss
        model['auxiliary_head'] = dict(model['auxiliary_head'], loss_decode=AUXILIARY_LOSS)
    return model


def _without(mixin: type, cfg: dict) -> dict:
    """The config of the class that a mixin stands in front of, without the mixin's own arguments."""
    classes = MODELS.get(cfg['type']).__mro__
    base = next(base for base in classes if not issubclass(base, mixin) and base not in mixin.__mro__)
    own = [key for part in mixin.__mro__ for key in inspect.getfullargspec(part.__init__).kwonlyargs]
    return dict({key: value for key, value in cfg.items() if key not in own}, type=base.__name__)


def group_by_network(configs: dict[str, Config]) -> list[tuple[dict, dict[str, Config]]]:
    """Plain networks, each with the systems that are made of it."""
    groups: list[tuple[dict, dict[str, Config]]] = []
    for name, cfg in configs.items():
        plain = plain_model(cfg)
        members = next((members for other, members in groups if other == plain), None)
        if members is None:
            members = {}
            groups.append((plain, members))
        members[name] = cfg
    return groups


def measure_systems(configs: dict[str, Config], args: argparse.Namespace) -> Iterator[tuple[str, Seconds, Megabytes]]:
    """Measure systems and the plain training of their network, network by network.

    ``configs`` loses its downloads, and takes images of ``args.size``. All networks of a group are in memory at once.

    Yields:
        tuple: What the network is; for 'plain' and each system the seconds of each turn, and megabytes.
    """
    for cfg in configs.values():
        without_downloads(cfg)
        if 'size' in cfg.model.data_preprocessor:
            cfg.model.data_preprocessor.size = tuple(args.size)
    data = make_batch(args.batch, *args.size, maps=False)
    for plain, systems in group_by_network(configs):
        title = f'{plain["decode_head"]["type"]} over {plain["backbone"]["type"]}'
        yield title, *_measure_group({'plain': Config(dict(model=plain)), **systems}, data, args)


def _measure_group(configs: dict[str, Config], data: dict, args: argparse.Namespace) -> tuple[Seconds, Megabytes]:
    variants, megabytes = {}, {}
    gc.collect()  # networks of the group before would count otherwise, until they are gone
    for name, cfg in configs.items():
        clip_grad = cfg.get('optim_wrapper', {}).get('clip_grad')
        bench = Bench(cfg.model, dict(optimizer=OPTIMIZER, clip_grad=clip_grad), data, args)
        iterate = bench.variant(mdat_hook(cfg), bool(cfg.model.get('train_only')))
        megabytes[name] = bench.megabytes(iterate)
        variants[name] = partial(bench.seconds, iterate)
    return seconds_in_turns(variants, args.warmup, args.rounds), megabytes
