# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Check everything that a config reads before hours are spent on it.

    python tools/check_data.py configs/mgcda_cityscapes.py
    python tools/check_data.py configs/_base_/datasets/benchmarks.py --splits test --workers 8

Reads every file of every data set, reports all problems by data set, prints a summary, and exits with 1 where
something is wrong: missing folders and files, other numbers of images than the official ones, files that do not pair
up, differ in size, hold wrong values or cannot be read, images that are there twice, labels without a valid pixel or
without anomalies, labels of hidden test sets, COCO files, and what the pipeline says of the first sample.
"""
import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar, import_modules_from_strings
from mmseg.registry import DATASETS
from prettytable import PrettyTable
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'projects'))
from mgcda.datasets import CocoObjects
from mgcda.datasets.file_checks import SampleReport, check_object_image, check_sample
from mgcda.datasets.leaf_configs import leaf_configs
from mgcda.engine.launch import read_config
from mgcda.labels import ANOMALY, CITYSCAPES_TRAIN_LABEL_IDS, CITYSCAPES_VOID_LABEL_IDS, IGNORE, NORMAL, OUTLIER

SPLITS = ('train', 'val', 'test')
#: So many label values are listed one by one in the table.
LISTED_VALUES = 8


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Check everything that a config reads')
    parser.add_argument('config', help='config with dataloaders')
    parser.add_argument(
        '--splits', nargs='+', choices=SPLITS, default=SPLITS, help='dataloaders to check; default: all')
    parser.add_argument('--workers', type=int, default=2, help='processes that read files')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    args = parser.parse_args(argv)
    if args.workers < 0:
        parser.error('--workers must be >= 0')
    return args


@dataclass
class SetReport:
    """What was found in a data set, and which dataloaders read it."""
    cfg: dict
    splits: list[str]
    name: str
    problems: list[str] = field(default_factory=list)
    num_images: int = 0
    num_official: int | None = None
    sizes: set[tuple] = field(default_factory=set)
    values: set[int] = field(default_factory=set)
    num_normal: int = 0
    num_anomaly: int = 0
    is_named: bool = False
    hidden: bool = False
    has_anomalies: bool = False


def plural(number: int, noun: str) -> str:
    """A number of things."""
    return f'{number} {noun}' + ('' if number == 1 else 's')


def find_sets(cfg: Config, splits: Sequence[str]) -> list[SetReport]:
    """A report for each data set of the dataloaders; one that several of them read alike is there once."""
    reports: dict[str, SetReport] = {}
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if not loader:
            continue
        for leaf in leaf_configs(loader['dataset']):
            leaf = leaf.to_dict() if hasattr(leaf, 'to_dict') else dict(leaf)
            name = leaf.get('dataset_name') or leaf.get('type', 'unnamed')
            reports.setdefault(repr(leaf), SetReport(leaf, [], name)).splits.append(split)
    return list(reports.values())


def check_names(reports: Sequence[SetReport]) -> None:
    """Note which data sets of one dataloader would be reported as one."""
    for split in ('val', 'test'):
        counts = Counter(report.name for report in reports for other in report.splits if other == split)
        for report in reports:
            if report.is_named and split in report.splits and counts[report.name] > 1:
                report.problems.append(f'{split}_dataloader reads several data sets under the name {report.name}: '
                                       'their pixels would be pooled; give each a dataset_name of its own')


class Jobs(Dataset):
    """Calls as the work of a dataloader's processes."""

    def __init__(self, function: Callable, arguments: Sequence[tuple]) -> None:
        self.function = function
        self.arguments = arguments

    def __len__(self) -> int:
        return len(self.arguments)

    def __getitem__(self, index: int) -> Any:
        return self.function(*self.arguments[index])

    def run(self, workers: int, bar: ProgressBar) -> Iterator[Any]:
        """Results in order."""
        for result in DataLoader(self, batch_size=None, num_workers=workers):
            bar.update()
            yield result


def check_set(report: SetReport, workers: int) -> None:
    """Fill the report of a data set."""
    refused: list[str] = []
    try:
        dataset = DATASETS.build(dict(report.cfg, lazy_init=True))
        if not isinstance(dataset, BaseDataset):
            raise TypeError('it is no BaseDataset of MMEngine, so its files are not known')
        report.name = getattr(dataset, 'dataset_name', report.name)
        report.is_named = hasattr(dataset, 'dataset_name')
        report.hidden = getattr(dataset, 'labels_hidden', False)
        report.num_official = getattr(dataset, 'num_official_images', None)
        dataset.refuse = refused.append
        infos = part_of(dataset.load_data_list(), report.cfg.get('indices'))
    except Exception as error:  # whatever is wrong with one data set, the others are checked
        report.problems.extend([*refused, f'it cannot be built: {type(error).__name__}: {error}'])
        return
    report.problems.extend(refused)
    if not hasattr(dataset, 'target_map') or set(dataset.allowed_targets) != {NORMAL, ANOMALY, IGNORE}:
        label_map = label_map_of(dataset)
        infos = [dict(info, label_map=label_map) for info in infos]
    report.has_anomalies = any(ANOMALY in info['label_map'].values() for info in infos)
    arguments = [(info, resizes(dataset, 'LoadAnomalyAnnotations'), resizes(dataset, 'LoadDissimilarityMaps'))
                 for info in infos]
    print(f'{report.name}: {plural(len(infos), "image")}')
    samples = list(Jobs(check_sample, arguments).run(workers, ProgressBar(len(infos)))) if infos else []
    print()
    add_samples(report, infos, samples, getattr(dataset, 'unlabelled_images', frozenset()))
    of_objects = check_objects(dataset.object_args, workers) if hasattr(dataset, 'object_args') else []
    report.problems.extend(of_objects)
    if not (refused or of_objects) and samples and not samples[0].problems:
        try:
            DATASETS.build(dict(report.cfg, serialize_data=False))[0]
        except Exception as error:  # the pipeline may be anybody's
            report.problems.append(f'the pipeline fails on the first sample: {type(error).__name__}: {error}')


def part_of(infos: list[dict], indices: Any) -> list[dict]:
    """The samples that the option ``indices`` of a data set leaves."""
    if indices is None:
        return infos
    if isinstance(indices, int):
        return infos[:indices] if indices >= 0 else infos[indices:]
    return [infos[i] for i in indices]


def label_map_of(dataset: BaseDataset) -> dict[int, int]:
    """Values that labels may hold that are classes, as those of MMSegmentation's data sets, as if these were normal."""
    if hasattr(dataset, 'target_map'):
        kinds = {IGNORE: IGNORE, OUTLIER: ANOMALY}
        return {value: kinds.get(target, NORMAL) for value, target in dataset.target_map.items()}
    if has_step(dataset, 'LabelIdToTrainId'):
        values = [*CITYSCAPES_TRAIN_LABEL_IDS, *CITYSCAPES_VOID_LABEL_IDS]
    else:
        values = range(len(dataset.metainfo.get('classes') or range(255)) + int(dataset.reduce_zero_label))
    return {**dict.fromkeys(values, NORMAL), dataset.ignore_index: IGNORE}


def has_step(dataset: BaseDataset, kind: str) -> bool:
    """Whether the pipeline has a step of that type."""
    return any(type(step).__name__ == kind for step in dataset.pipeline.transforms)


def resizes(dataset: BaseDataset, kind: str) -> bool:
    """Whether the step of that type brings files of another size to the image's."""
    return any(type(step).__name__ == kind and step.resize for step in dataset.pipeline.transforms)


def add_samples(report: SetReport, infos: list[dict], samples: list[SampleReport], unlabelled: frozenset) -> None:
    """Note the problems of the samples, and those that only many of them show."""
    problems = report.problems
    report.num_images = len(infos)
    if not infos:
        problems.append('it has no images that could be used')
    if report.num_official not in (None, len(infos)):
        problems.append(f'{plural(len(infos), "image")}, but the official {report.name} has {report.num_official}: '
                        'complete it, or give it a dataset_name of its own, since results would not compare')
    for info, sample in zip(infos, samples):
        problems.extend(sample.problems)
        report.values.update(sample.values)
        report.sizes.update([tuple(sample.size)] if sample.size else [])
        if sample.num_normal is not None:
            report.num_normal += sample.num_normal
            report.num_anomaly += sample.num_anomaly
            if sample.num_normal + sample.num_anomaly == 0 and info['img_path'] not in unlabelled:
                problems.append(f'label file {info["seg_map_path"]} has no valid pixel: all are void')
    problems.extend(twice(infos, samples, 'train' not in report.splits))
    if report.num_normal + report.num_anomaly:
        if report.num_normal == 0:
            problems.append('not one pixel of all its labels is normal; do the label values mean what they should?')
        if report.num_anomaly == 0 and report.has_anomalies:
            problems.append('not one pixel of all its labels is an anomaly; do the label values mean what they should?')
    # What several ways of looking find is one problem.
    report.problems[:] = dict.fromkeys(problems)


def twice(infos: list[dict], samples: list[SampleReport], by_name: bool) -> Iterator[str]:
    """Problems of images that are there twice, by content, and where score maps are named after them, by name."""
    groups = defaultdict(list)
    for info, sample in zip(infos, samples):
        if sample.digest is not None:
            groups[sample.digest].append(info['img_path'])
    yield from (f'the same image is there {len(paths)} times: {", ".join(paths)}' for paths in groups.values()
                if len(paths) > 1)
    if by_name:
        names = Counter(os.path.splitext(os.path.basename(info['img_path']))[0] for info in infos)
        yield from (f'{count} images are named {name}, and their score maps would be, too'
                    for name, count in names.items() if count > 1)


def check_objects(arguments: dict, workers: int) -> list[str]:
    """Problems of the COCO files that objects are cut from."""
    try:
        images = CocoObjects(**arguments).image_sizes()
    except (OSError, TypeError, ValueError) as error:
        return [str(error)]
    print(f'images of {arguments["ann_file"]}')
    results = Jobs(check_object_image, list(images.items())).run(workers, ProgressBar(len(images)))
    problems = [problem for found in results for problem in found]
    print()
    return problems


def describe_values(report: SetReport) -> str:
    """Label values for the table."""
    if report.hidden:
        return 'hidden'
    values = sorted(report.values)
    if len(values) <= LISTED_VALUES:
        return ' '.join(map(str, values)) or '-'
    return f'{values[0]}-{values[-1]} ({len(values)})'


def summary(reports: list[SetReport]) -> PrettyTable:
    """A line for each data set."""
    table = PrettyTable(
        ['data set', 'read by', 'images', 'official', 'size', 'label values', 'anomaly pixels', 'problems'])
    for report in reports:
        sizes = [f'{width}x{height}' for height, width in sorted(report.sizes)]
        valid = report.num_normal + report.num_anomaly
        table.add_row([
            report.name, ' '.join(dict.fromkeys(report.splits)), report.num_images, report.num_official or '-',
            f'{len(sizes)} sizes' if len(sizes) > 2 else ' '.join(sizes) or '-',
            describe_values(report),
            f'{100 * report.num_anomaly / valid:.4g} %' if valid and report.has_anomalies else '-',
            len(report.problems)
        ])
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns 1 where something is wrong, else 0."""
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    reports = find_sets(cfg, args.splits)
    if not reports:
        raise ValueError(f'{args.config} has no dataloader for {", ".join(args.splits)}')
    for report in reports:
        check_set(report, args.workers)
    check_names(reports)
    for report in reports:
        if report.problems:
            splits = ', '.join(dict.fromkeys(report.splits))
            print(f'\n{report.name} ({splits}): {plural(len(report.problems), "problem")}')
            print(*(f'  - {problem}' for problem in report.problems), sep='\n')
    print(summary(reports))
    num_problems = sum(len(report.problems) for report in reports)
    print(f'{plural(num_problems, "problem")} in {plural(len(reports), "data set")}')
    return int(num_problems > 0)


if __name__ == '__main__':
    sys.exit(main())
