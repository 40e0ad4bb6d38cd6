# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Write AnomalyMix composites to disk, so that offline maps can be made of them.

    python tools/dataset_converters/make_anomaly_mix.py configs/_base_/datasets/anomaly_mix_paste.py data/anomaly_mix

    python -m torch.distributed.run --nproc_per_node 8 tools/dataset_converters/make_anomaly_mix.py CONFIG OUT \
        --launcher pytorch

Writes ``OUT/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png`` and ``OUT/gtFine/SPLIT/CITY/NAME_gtFine_anomaly.png`` (0
normal, 1 anomaly, 255 void), the layout of CompositeDataset, one composite for every image of the config's
AnomalyMixDataset, made by the first part of its pipeline, up to PasteObjects. A composite depends on the seed and its
number only, not on how many processes write. A run that was interrupted goes on where it stopped; composites of other
settings are not mixed with new ones.
"""
import argparse
import os
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from mmengine.config import DictAction
from mmengine.dist import barrier, collect_results, get_dist_info
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from mmseg.registry import DATASETS
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))
from mgcda.datasets import AnomalyMixDataset, SampleKey
from mgcda.engine.launch import export_local_rank, start_gloo, stop_processes
from mgcda.utils.configs import read_config
from mgcda.utils.files import claim_folder, write_png

SETTINGS_FILE = 'composites.json'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Write AnomalyMix composites to disk')
    parser.add_argument('config', help='config with an AnomalyMixDataset in its train_dataloader')
    parser.add_argument('out', help='folder to write, the data_root of a CompositeDataset')
    parser.add_argument('--split', help='folder below leftImg8bit and gtFine; default: the last one of the images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the composites, >= 0')
    parser.add_argument('--repeats', type=int, default=1, help='composites an image')
    parser.add_argument('--workers', type=int, default=2, help='processes a rank that make and write composites')
    parser.add_argument('--overwrite', action='store_true', help='make composites again that exist already')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    if args.seed < 0 or args.repeats < 1 or args.workers < 0:
        parser.error('--seed and --workers must be >= 0, --repeats >= 1')
    return args


def mix_configs(node: object) -> Iterator[dict]:
    """All AnomalyMixDataset configs inside a data set config."""
    if isinstance(node, dict):
        if node.get('type') == 'AnomalyMixDataset':
            yield node
        else:
            for child in node.values():
                yield from mix_configs(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from mix_configs(child)


class CompositeWriter(Dataset):
    """Making the composite of a number and writing it, as the work of a dataloader's processes."""

    def __init__(self, dataset: AnomalyMixDataset, out: str, split: str, seed: int) -> None:
        self.dataset = dataset
        self.out = out
        self.split = split
        self.seed = seed
        self.numbers: list[int] = []

    def paths(self, number: int) -> tuple[str, str]:
        """Files of image and label."""
        repeat, index = divmod(number, len(self.dataset))
        path = os.path.relpath(self.dataset.get_data_info(index)['img_path'], self.dataset.data_prefix['img_path'])
        suffixes = self.dataset.img_suffix
        suffixes = (suffixes, ) if isinstance(suffixes, str) else suffixes
        name = next(path[:-len(suffix)] for suffix in suffixes if path.endswith(suffix))
        name += f'_r{repeat}' if repeat else ''
        return (os.path.join(self.out, 'leftImg8bit', self.split, f'{name}_leftImg8bit.png'),
                os.path.join(self.out, 'gtFine', self.split, f'{name}_gtFine_anomaly.png'))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, item: int) -> int:
        number = self.numbers[item]
        image, target = self.dataset.composite(SampleKey(number % len(self.dataset), self.seed, number))
        image_path, label_path = self.paths(number)
        write_png(label_path, target)
        write_png(image_path, image)
        return number


def main() -> None:
    """Run the command line."""
    args = parse_args()
    export_local_rank(args)
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope('mmseg')
    found = list(mix_configs(cfg.get('train_dataloader', {})))
    if len(found) != 1:
        raise ValueError(f'{args.config} must have one AnomalyMixDataset in its train_dataloader, found {len(found)}')
    dataset = DATASETS.build(found[0])
    steps = [str(step) for step in dataset.pipeline.transforms]
    steps = steps[:1 + max(i for i, step in enumerate(steps) if step.startswith('PasteObjects'))]
    split = args.split or os.path.basename(os.path.normpath(dataset.data_prefix['img_path']))
    writer = CompositeWriter(dataset, args.out, split, args.seed)
    start_gloo(args.launcher)  # whatever launched the processes: nothing here runs on a GPU
    rank, world_size = get_dist_info()
    if rank == 0:
        objects = {key: value for key, value in found[0]['objects'].items() if key not in ('data_root', 'cache_mb')}
        settings = dict(seed=args.seed, objects=objects, labels=dataset.target_map, steps=steps)
        images = Path(args.out, 'leftImg8bit', split)
        made = chain(images.rglob('*_leftImg8bit.png'), Path(args.out, 'gtFine', split).rglob('*_gtFine_anomaly.png'))
        claim_folder(images / SETTINGS_FILE, settings, 'composites', args.overwrite, made)
    if world_size > 1:
        barrier()
    numbers = range(rank, len(dataset) * args.repeats, world_size)
    writer.numbers = [n for n in numbers if args.overwrite or not all(map(os.path.isfile, writer.paths(n)))]

    start = time.time()
    bar = ProgressBar(len(writer)) if rank == 0 and len(writer) else None
    for _ in DataLoader(writer, batch_size=None, num_workers=args.workers):
        if bar is not None:
            bar.update()
    written = sum(collect_results([len(writer)], world_size, device='cpu') or []) if world_size > 1 else len(writer)
    if rank == 0:
        total = len(dataset) * args.repeats
        print(f'\n{written} of {total} composites written to {args.out} in {time.time() - start:.0f} s from '
              f'{len(dataset.objects)} objects, {total - written} were there already')
    stop_processes()


if __name__ == '__main__':
    main()
