# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Print how large a part of the training samples is anomalous, by data set.

    python tools/analysis_tools/anomaly_share.py configs/_base_/datasets/anomaly_mix_paste.py
    python tools/analysis_tools/anomaly_share.py configs/mgcda_cityscapes.py --num-images 500 --workers 8

The share of a sample is the part of all its pixels, ignored ones included, that are anomalous after all steps of the
pipeline: pasting, resizing, cropping. For each data set of the config's train_dataloader, the mean, the median, and
the 10th and 90th percentiles over its samples are printed, in %. Maps are not read and need not exist.
"""
import argparse
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from mmseg.registry import DATASETS
from prettytable import PrettyTable
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))
from mgcda.datasets import AnomalyDataset, SampleKey
from mgcda.labels import ANOMALY
from mgcda.utils.configs import leaf_configs, read_config

#: Steps that the labels do not need.
LEFT_OUT = ('LoadDissimilarityMaps', 'PackDissimilarityInputs', 'PackSegInputs')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Print how large a part of the training samples is anomalous')
    parser.add_argument('config', help='config with a train_dataloader')
    parser.add_argument(
        '--num-images',
        type=int,
        default=500,
        help='images of each data set, drawn at random; default: 500, or all '
        'where it has fewer')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the images that are drawn and of the samples, >= 0')
    parser.add_argument('--workers', type=int, default=2, help='processes that make samples')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    args = parser.parse_args(argv)
    if args.num_images < 1 or args.seed < 0 or args.workers < 0:
        parser.error('--num-images must be at least 1, --seed and --workers at least 0')
    return args


def build(cfg: dict) -> AnomalyDataset:
    """A training data set that loads labels and no maps."""
    cfg = dict(cfg, pipeline=[step for step in cfg.get('pipeline', ()) if step['type'] not in LEFT_OUT])
    cfg.pop('maps_root', None)
    dataset = DATASETS.build(cfg)
    if not isinstance(dataset, AnomalyDataset):
        raise TypeError(f'{cfg.get("type")} is no data set of anomalies: its labels have no anomalous pixels')
    return dataset


class Shares(Dataset):
    """Share of the anomalous pixels in samples of a data set, as the work of a dataloader's processes."""

    def __init__(self, dataset: AnomalyDataset, num_images: int, seed: int) -> None:
        self.dataset = dataset
        self.anomaly = getattr(dataset, 'anomaly_target', ANOMALY)
        chosen = np.random.default_rng(seed).permutation(len(dataset))[:num_images]
        self.keys = [SampleKey(int(index), seed, position) for position, index in enumerate(chosen)]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, item: int) -> float:
        results = self.dataset[self.keys[item]]
        if 'gt_seg_map' not in results:
            raise ValueError(f'the pipeline of {self.dataset.dataset_name} loads no labels')
        return float((results['gt_seg_map'] == self.anomaly).mean())

    def run(self, workers: int) -> Iterator[float]:
        """The shares in order."""
        bar = ProgressBar(len(self))
        for share in DataLoader(self, batch_size=None, num_workers=workers):
            bar.update()
            yield share
        print()


def describe(shares: Sequence[float]) -> dict[str, float]:
    """Mean, median, 10th and 90th percentile in %."""
    values = 100 * np.asarray(shares, np.float64)
    low, median, high = np.percentile(values, (10, 50, 90))
    return {'mean': values.mean(), 'median': median, '10th percentile': low, '90th percentile': high}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    if not cfg.get('train_dataloader'):
        raise ValueError(f'{args.config} has no train_dataloader')
    leaves = [
        leaf.to_dict() if hasattr(leaf, 'to_dict') else dict(leaf)
        for leaf in leaf_configs(cfg.train_dataloader.dataset)
    ]
    table: PrettyTable | None = None
    for dataset in map(build, leaves):
        shares = Shares(dataset, args.num_images, args.seed)
        print(f'{dataset.dataset_name}: {len(shares)} of {len(dataset)} images')
        figures = describe(list(shares.run(args.workers)))
        if table is None:
            table = PrettyTable(['data set', 'domain', 'images', 'objects', *figures])
        objects = getattr(dataset, 'objects', None)
        row: list = [
            dataset.dataset_name, '-' if dataset.domain is None else dataset.domain,
            len(shares), '-' if objects is None else len(objects)
        ]
        table.add_row([*row, *(f'{value:.2f}' for value in figures.values())])
    print('anomalous pixels in % of all pixels of a sample, ignored ones counted along')
    print(table)


if __name__ == '__main__':
    main()
