# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Test a model: ``python tools/test.py CONFIG CHECKPOINT``. Takes the arguments of MMSegmentation's."""
import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict
from torch.utils.data import Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'projects'))
from mgcda.engine.launch import (
    add_common_arguments,
    build_runner,
    export_local_rank,
    guard_checkpoints,
    load_config,
    prepare_launcher,
    stop_processes,
    unwrap,
)
from mgcda.utils.checkpoints import check_checkpoint_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument('--out', metavar='DIR', help='folder that the metric writes the predictions to')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='folder for painted predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that a window stays')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, with tta_model and tta_pipeline')
    args = parser.parse_args(argv)
    export_local_rank(args)
    return args


def enable_visualization(cfg: Config, args: argparse.Namespace) -> None:
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need the hook default_hooks.visualization, which the config does not have')
    hook['draw'] = True
    if args.show:
        hook.update(show=True, wait_time=args.wait_time)
    if args.show_dir:
        if cfg.get('visualizer') is None:
            raise ValueError('--show-dir needs a visualizer, which the config does not have')
        cfg.visualizer['save_dir'] = args.show_dir


def enable_tta(cfg: Config) -> None:
    missing = [key for key in ('tta_model', 'tta_pipeline') if cfg.get(key) is None]
    if missing:
        raise ValueError(f'--tta needs {" and ".join(missing)} in the config')
    set_pipeline(cfg.test_dataloader.dataset, cfg.tta_pipeline)
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model


def set_pipeline(dataset: ConfigDict, pipeline: Sequence[dict]) -> None:
    """Set the pipeline of a data set, or of all that a wrapper such as ConcatDataset holds."""
    children = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    for child in children:
        set_pipeline(child, pipeline)
    if not children:
        dataset.pipeline = pipeline


def enable_output(cfg: Config, folder: str) -> None:
    if not isinstance(cfg.test_evaluator, dict):
        raise ValueError('--out needs test_evaluator to be a single dict, as its one metric writes to that folder')
    cfg.test_evaluator.update(output_dir=folder, keep_results=True)


def names_of(dataset: Dataset) -> list[str]:
    """Names that the data sets inside report their results under, as far as they have any."""
    children = getattr(dataset, 'datasets', None) or ([dataset.dataset] if hasattr(dataset, 'dataset') else [])
    own = [dataset.dataset_name] if hasattr(dataset, 'dataset_name') else []
    return own + [name for child in children for name in names_of(child)]


def check_names(dataset: Dataset) -> None:
    """Refuse several data sets of one name, whose pixels would be pooled."""
    twice = [name for name, count in Counter(names_of(dataset)).items() if count > 1]
    if twice:
        raise ValueError(f'test_dataloader reads several data sets under the name {", ".join(twice)}: their pixels '
                         'would be pooled; give each a dataset_name of its own')


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse_args(argv)
    cfg = load_config(args, required=('model', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    check_checkpoint_file(args.checkpoint)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        enable_visualization(cfg, args)
    if args.tta:
        enable_tta(cfg)
    if args.out is not None:
        enable_output(cfg, args.out)
    guard_checkpoints(cfg)
    prepare_launcher(cfg)
    runner = build_runner(cfg)
    check_names(runner.test_dataloader.dataset)
    model = unwrap(runner.model)
    if hasattr(model, 'switch_to_deploy'):
        model.switch_to_deploy()
    metrics = runner.test()
    stop_processes()
    return metrics


if __name__ == '__main__':
    main()
