# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Score anomaly maps on disk, of this project or of any other code, without a network.

    python tools/analysis_tools/evaluate_scores.py work_dirs/scores --protocol pebal --out work_dirs/pebal.json

Reads ``DIR/<data set>/<image name>.<npy|npz|hdf5|h5|tif|tiff|png>``, a map (H, W) for every image, larger = more
anomalous, as ``tools/test.py --out DIR`` writes them, and the labels of the data sets of a config. Only data sets that
have a folder in DIR are read. float32 maps give exactly the results of the test that wrote them.
"""
import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from mmseg.registry import DATASETS
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'projects'))
from mgcda.datasets import AnomalyDataset
from mgcda.datasets.official import official_num_images
from mgcda.evaluation import AnomalyMetric
from mgcda.evaluation.curves import MODES, PROTOCOLS
from mgcda.evaluation.metrics.score_evaluation import COMPONENT_SIZES
from mgcda.evaluation.results import differences, read_results, write_results
from mgcda.evaluation.score_maps import find_scores, read_scores
from mgcda.evaluation.submissions.smiyc import frame_id
from mgcda.utils.configs import leaf_configs, read_config
from mgcda.utils.files import write_file

LABEL_STEP = 'LoadAnomalyAnnotations'
SHOWN = 10


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Score anomaly maps on disk')
    parser.add_argument('scores', metavar='DIR', help='folder with a folder of score maps for each data set')
    parser.add_argument(
        '--config',
        default=str(ROOT / 'configs/_base_/datasets/benchmarks.py'),
        help='config whose test_dataloader '
        'names the data sets; default: all public benchmarks')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    parser.add_argument('--out', metavar='FILE', help='results.json to write, with curves')
    counting = parser.add_argument_group('how is counted')
    counting.add_argument('--protocol', choices=tuple(PROTOCOLS), default='fishyscapes', help='whose rules count')
    counting.add_argument('--mode', choices=tuple(MODES), default='streaming', help='how pixels are kept')
    counting.add_argument(
        '--recalls', nargs='+', type=float, default=(0.95, ), help='where the false positive rate is read, in (0, 1)')
    counting.add_argument(
        '--components',
        nargs='*',
        type=int,
        metavar='PIXELS',
        help="component metrics: with the benchmark's sizes, or "
        'with the least sizes of predicted and of ground-truth components')
    counting.add_argument('--threshold', type=float, help="of component metrics; default: the best pixel F1's")
    counting.add_argument('--per-image', metavar='FILE', help='CSV file of the values of each image to write')
    counting.add_argument('--size', nargs=2, type=int, metavar=('H', 'W'), help='count at this size, as SynBoost does')
    reading = parser.add_argument_group('how score maps are read')
    reading.add_argument('--suffix', help='what their names end on, such as _anomaly.npy; default: the extension')
    reading.add_argument('--key', help='entry of .npz and HDF5 files; default: the only one, or value')
    reading.add_argument('--scale', type=float, help='divide stored values by it, such as 255')
    reading.add_argument('--negate', action='store_true', help='smaller is more anomalous: change the sign')
    reading.add_argument('--resize', action='store_true', help='bring maps of another size to that of the label')
    reading.add_argument('--ignore-surplus', action='store_true', help='leave out maps of images that the set lacks')
    reading.add_argument('--workers', type=int, default=2, help='processes that read')
    args = parser.parse_args(argv)
    if args.components is not None and len(args.components) not in (0, 2):
        parser.error('--components takes no value, or two')
    if args.threshold is not None and args.components is None:
        parser.error('--threshold needs --components')
    return args


class ScoredImages(Dataset):
    """Score maps and labels of a data set, as the samples that AnomalyMetric reads."""

    def __init__(self, dataset: torch.utils.data.Dataset, maps: dict[str, Path], args: argparse.Namespace) -> None:
        self.dataset, self.args = dataset, args
        self.infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        self.paths = match(self.infos, maps, dataset.dataset_name, args)

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> dict:
        info = self.infos[index]
        label = torch.from_numpy(self.dataset[index]['gt_seg_map'])[None]
        scores = torch.from_numpy(read_scores(self.paths[index], self.args.key, self.args.scale))[None]
        if self.args.negate:
            scores = -scores
        if scores.shape != label.shape:
            if not self.args.resize:
                raise ValueError(f'{self.paths[index]} is {tuple(scores.shape[1:])}, the label of {info["img_path"]} '
                                 f'{tuple(label.shape[1:])}; --resize brings maps to the size of the labels')
            scores = F.interpolate(scores[None], label.shape[1:], mode='bilinear', align_corners=False)[0]
        return dict(
            anomaly_scores=dict(data=scores),
            gt_sem_seg=dict(data=label),
            img_path=info['img_path'],
            dataset_name=self.dataset.dataset_name)


def match(infos: Sequence[dict], maps: dict[str, Path], name: str, args: argparse.Namespace) -> list[Path]:
    """The score map of each image: that of the image's name, with or without ``_leftImg8bit``.

    Raises:
        ValueError: Maps are missing or surplus, or one is that of several images; the message names them.
    """
    stems = [Path(info['img_path']).stem for info in infos]
    keys = [stem if stem in maps else frame_id(stem) for stem in stems]
    missing = [stem for stem, key in zip(stems, keys) if key not in maps]
    surplus = sorted(maps.keys() - set(keys))
    shared = next((key for key, count in Counter(keys).items() if count > 1 and key in maps), None)
    if shared is not None:
        paths = [info['img_path'] for info, key in zip(infos, keys) if key == shared]
        raise ValueError(f'{name}: {maps[shared]} cannot be the score map of all of {", ".join(paths[:SHOWN])}; images '
                         'need names of their own')
    if missing:
        raise ValueError(f'{name}: {len(missing)} of {len(infos)} images have no score map, such as '
                         f'{", ".join(missing[:SHOWN])}' +
                         (f'; score maps of no image: {", ".join(surplus[:SHOWN])}' if surplus else ''))
    if surplus and not args.ignore_surplus:
        raise ValueError(f'{name}: {len(surplus)} score maps belong to no image of the data set, such as '
                         f'{", ".join(surplus[:SHOWN])}; --ignore-surplus leaves them out')
    return [maps[key] for key in keys]


def build_sets(args: argparse.Namespace) -> list[ScoredImages]:
    """The data sets of the config that have score maps, without loading images."""
    root = Path(args.scores)
    if not root.is_dir():
        raise FileNotFoundError(f'folder of score maps not found: {root}')
    cfg = read_config(args.config, args.cfg_options)
    if not cfg.get('test_dataloader'):
        raise ValueError(f'{args.config} has no test_dataloader, whose data sets hold the labels')
    sets, names = [], []
    for config in leaf_configs(cfg.test_dataloader.dataset):
        steps = [step for step in config.get('pipeline', ()) if step['type'].split('.')[-1] == LABEL_STEP]
        dataset = DATASETS.build({**config, 'pipeline': steps or [dict(type=LABEL_STEP)], 'lazy_init': True})
        if not isinstance(dataset, AnomalyDataset):
            raise ValueError(
                f'{args.config}: {type(dataset).__name__} is no AnomalyDataset, so its results have no name')
        if dataset.LABEL_CLASSES is not None:  # predicted classes count there, not scores
            continue
        name = dataset.dataset_name
        if name in names:
            raise ValueError(f'{args.config} has several data sets of the name {name}, which would read the same score '
                             'maps: give each a dataset_name of its own')
        names.append(name)
        if (root / name).is_dir():
            dataset.full_init()
            sets.append(ScoredImages(dataset, find_scores(root / name, args.suffix), args))
    if not sets:
        raise ValueError(f'{root} has no folder of a data set of {args.config}, which are {", ".join(names)}')
    return sets


def build_metric(args: argparse.Namespace, names: Sequence[str], folder: str) -> AnomalyMetric:
    """The metric, which writes results and the values of images to a folder."""
    components = None
    if args.components is not None:
        sizes = dict(zip(('min_pred_area', 'min_gt_area'), args.components))
        unknown = [name for name in names if name not in COMPONENT_SIZES]
        if unknown and not sizes:
            raise ValueError(f'the benchmarks have no sizes of components for {", ".join(unknown)}: name the least '
                             'size of predicted and of ground-truth components, --components 500 100')
        components = {name: dict(sizes or COMPONENT_SIZES[name], threshold=args.threshold) for name in names}
    return AnomalyMetric(
        mode=args.mode,
        protocol=args.protocol,
        recalls=args.recalls,
        components=components,
        per_image=args.per_image is not None,
        size=args.size,
        output_dir=folder,
        score_dtype=None)


def evaluate(sets: Sequence[ScoredImages], args: argparse.Namespace) -> dict[str, float]:
    """Results, keyed as those of a test."""
    images = ConcatDataset(sets)
    with tempfile.TemporaryDirectory() as folder:
        metric = build_metric(args, [part.dataset.dataset_name for part in sets], folder)
        bar = ProgressBar(len(images))
        for sample in DataLoader(images, batch_size=None, num_workers=args.workers):
            metric.process(None, [sample])
            bar.update()
        print()
        results = metric.evaluate(len(images))
        content = read_results(os.path.join(folder, 'results.json'))
        print(*differences({args.scores: content}, list(content['data_sets']), official_num_images()), sep='\n')
        if args.out:
            write_results(args.out, content)
        if args.per_image:
            write_file(args.per_image, Path(folder, 'per_image.csv').read_bytes())
    return results


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the command line."""
    args = parse_args(argv)
    init_default_scope('mmseg')
    return evaluate(build_sets(args), args)


if __name__ == '__main__':
    main()
