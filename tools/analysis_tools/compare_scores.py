# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Compare scores that need no training, over any segmenter of MMSegmentation, in one pass over the benchmarks.

    python tools/analysis_tools/compare_scores.py CONFIG CHECKPOINT --data-sets RoadAnomaly FS_Static
    python tools/analysis_tools/compare_scores.py CONFIG CHECKPOINT --scores msp energy --out work_dirs/scores
    python tools/analysis_tools/compare_scores.py CONFIG CHECKPOINT --data-sets RoadAnomaly Cityscapes

CONFIG is that of the segmenter, EncoderDecoder or CascadeEncoderDecoder, and CHECKPOINT its weights, of the model zoo
or one's own: neither needs to know of this project. Prints a table of all scores, as tools/test.py does for one, and
the mIoU on data sets whose labels are classes.
"""
import argparse
import os
import sys
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'projects'))

from mgcda.engine.launch import (
    add_common_arguments,
    build_runner,
    export_local_rank,
    guard_checkpoints,
    load_config,
    prepare_launcher,
    stop_processes,
)
from mgcda.utils.checkpoints import check_checkpoint_file
from mgcda.utils.configs import leaf_configs, read_config

BENCHMARKS = os.path.join(ROOT, 'configs/_base_/datasets/benchmarks.py')
RUNTIME = os.path.join(ROOT, 'configs/_base_/default_runtime.py')
SCORES = ('msp', 'entropy', 'margin', 'max_logit', 'energy')
#: Segmentor of MMSegmentation -> the same with anomaly scores.
SEGMENTORS = dict(
    EncoderDecoder='AnomalySegmentor',
    CascadeEncoderDecoder='CascadeAnomalySegmentor',
    AnomalySegmentor='AnomalySegmentor',
    CascadeAnomalySegmentor='CascadeAnomalySegmentor')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Compare scores of a segmenter that need no training')
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument('--scores', nargs='+', default=list(SCORES), help='default: %(default)s')
    parser.add_argument(
        '--data',
        metavar='CONFIG',
        default=BENCHMARKS,
        help='config whose test_dataloader names the data sets; default: '
        'all public benchmarks')
    parser.add_argument(
        '--data-sets',
        nargs='+',
        metavar='NAME',
        help='only these of them, such as RoadAnomaly, and others that '
        'the config defines, such as Cityscapes for the mIoU')
    parser.add_argument(
        '--resize', nargs=2, type=int, metavar=('W', 'H'), help="size of the network's input; default: the image's own")
    parser.add_argument('--out', metavar='DIR', help='folder for score maps and results.json, in a folder a score')
    args = parser.parse_args(argv)
    export_local_rank(args)
    return args


def anomaly_model(model: ConfigDict, scores: Sequence[str]) -> ConfigDict:
    """The segmenter's config with anomaly scores.

    Raises:
        ValueError: The segmentor is of another kind.
    """
    kind = model.type.split('.')[-1]
    if kind not in SEGMENTORS:
        raise ValueError(f'model.type must be one of {", ".join(SEGMENTORS)}, got {model.type!r}')
    model = ConfigDict(model, type=SEGMENTORS[kind], scores=list(scores))
    model.pop('score', None)
    return model


def choose_data(path: str, names: Sequence[str] | None, size: Sequence[int] | None) -> Config:
    """The config of the data sets, with those that are asked for: of its ``test_dataloader``, or of its variables.

    Raises:
        FileNotFoundError: No such config.
        ValueError: It names no such data set.
    """
    data = read_config(path)
    chosen = list(leaf_configs(data.test_dataloader.dataset))
    if names is not None:
        known = [(leaf.get('dataset_name', leaf.type), leaf) for leaf in chosen]
        tested = [name for name, _ in known]
        others = [entry for entry in data.values() if isinstance(entry, dict) and entry.get('test_mode')]
        known += [(entry.dataset_name, entry) for entry in others if entry.get('dataset_name') not in (None, *tested)]
        missing = set(names) - {name for name, _ in known}
        if missing:
            raise ValueError(f'{path} has no data set {", ".join(sorted(missing))}, but '
                             f'{", ".join(name for name, _ in known)}')
        chosen = [leaf for name, leaf in known if name in names]
    if size is not None:
        for leaf in chosen:
            loads = next(i for i, step in enumerate(leaf.pipeline) if step['type'].startswith('LoadImage'))
            leaf.pipeline = [
                *leaf.pipeline[:loads + 1],
                dict(type='Resize', scale=tuple(size), keep_ratio=False), *leaf.pipeline[loads + 1:]
            ]
    data.test_dataloader.dataset = ConfigDict(type='ConcatDataset', datasets=chosen)
    return data


def comparison(cfg: Config, args: argparse.Namespace) -> Config:
    """What is run: the segmenter's model on the data sets, in this project's environment."""
    data = choose_data(args.data, args.data_sets, args.resize)
    run = Config.fromfile(RUNTIME)
    imports = [*(cfg.get('custom_imports') or {}).get('imports', []), *run.custom_imports.imports]
    run.merge_from_dict(
        dict(
            model=anomaly_model(cfg.model, args.scores),
            test_dataloader=data.test_dataloader,
            test_evaluator=dict(data.test_evaluator, output_dir=args.out),
            test_cfg=dict(type='TestLoop'),
            work_dir=cfg.work_dir,
            launcher=cfg.launcher,
            load_from=args.checkpoint,
            custom_hooks=[],
            custom_imports=dict(imports=list(dict.fromkeys(imports)), allow_failed_imports=False)))
    run.pop('vis_backends', None)
    return run


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the command line."""
    args = parse_args(argv)
    cfg = load_config(args, required=('model', ))
    check_checkpoint_file(args.checkpoint)
    run = comparison(cfg, args)
    guard_checkpoints(run)
    prepare_launcher(run)
    metrics = build_runner(run).test()
    stop_processes()
    return metrics


if __name__ == '__main__':
    main()
