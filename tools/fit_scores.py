# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Fit the scores of a model that have statistics of training data, all in one pass.

    python tools/fit_scores.py CONFIG CHECKPOINT --out work_dirs/sml.pth

    python -m torch.distributed.run --nproc_per_node 8 tools/fit_scores.py CONFIG CHECKPOINT --launcher pytorch

Reads the images of ``fit_dataloader`` of the config, or else those of ``train_dataloader`` with the pipeline of
``test_dataloader``; each once, in order, whatever the sampler. A run that was interrupted goes on where it stopped.
"""
import argparse
import copy
import hashlib
import json
import os
import os.path as osp
import sys
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import broadcast_object_list, get_dist_info, is_distributed
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from mmseg.registry import DATASETS
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'projects'))
from mgcda.engine.launch import add_common_arguments, export_local_rank, load_config, start_processes, stop_processes
from mgcda.models import AnomalyMixin
from mgcda.models.builder import build_model
from mgcda.scores import FittedScore, ScoreFitter
from mgcda.scores.fitting.score_file import class_names, fingerprint, write_fitted
from mgcda.utils.checkpoints import check_checkpoint_file, checkpoint_bytes
from mgcda.utils.configs import find_pipeline, leaf_configs
from mgcda.utils.files import write_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Fit the scores of a model that have statistics of training data')
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or address of the segmentor')
    parser.add_argument(
        '--out',
        nargs='+',
        metavar='FILE',
        help='files to write, one for each fitted score in the order of the '
        'config (one for those that share their statistics); default: the `fitted` of each, else WORK_DIR/NAME.pth')
    parser.add_argument('--dataloader', metavar='NAME', help='dataloader of the config in place of fit_dataloader')
    parser.add_argument('--max-images', type=int, metavar='N', help='fit on N images, evenly spaced')
    parser.add_argument(
        '--save-every',
        type=int,
        default=200,
        metavar='N',
        help='save the statistics after so many images of a '
        'process, to go on from')
    parser.add_argument('--restart', action='store_true', help='do not go on where an interrupted run stopped')
    args = parser.parse_args(argv)
    for name in ('max_images', 'save_every'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be positive')
    export_local_rank(args)
    return args


def find_dataloader(cfg: Config, name: str | None) -> tuple[str, dict]:
    """The dataloader to fit on and what to call it.

    Raises:
        ValueError: The config has none that can be taken.
    """
    if name is not None or cfg.get('fit_dataloader') is not None:
        name = name or 'fit_dataloader'
        if cfg.get(name) is None:
            raise ValueError(f'{cfg.filename} has no {name}')
        return name, cfg[name].to_dict()
    steps = find_pipeline((cfg.get('test_dataloader') or {}).get('dataset') or {})
    if cfg.get('train_dataloader') is None or steps is None:
        raise ValueError(f'{cfg.filename} has no fit_dataloader, and no train_dataloader and test_dataloader to make '
                         'one of: add one that loads training images as in testing, with their class labels')
    if any(step['type'].split('.')[-1] == 'LoadAnomalyAnnotations' for step in steps):
        raise ValueError(f'the test pipeline of {cfg.filename} loads anomaly labels: add a fit_dataloader that loads '
                         'training images as in testing, with their class labels')
    loader = cfg.train_dataloader.to_dict()
    for leaf in leaf_configs(loader['dataset']):
        leaf['pipeline'] = [dict(step) for step in steps]
    return 'train_dataloader with the pipeline of test_dataloader', dict(loader, batch_size=1)


def check_classes(dataset: Dataset, model: nn.Module, where: str) -> list[str]:
    """Names of the model's classes; ValueError where the data has other ones."""
    trained = [str(name) for name in model.dataset_meta.get('classes') or ()]
    names = class_names(model, dataset.metainfo.get('classes') or trained)
    if len(names) != model.num_classes:
        raise ValueError(f'{where} has {len(names)} classes {names}, the model has {model.num_classes}')
    if trained and trained != names:
        raise ValueError(f'{where} has the classes {names}, the checkpoint was trained on {trained}')
    return names


def find_outputs(files: dict[str, list[str]], out: list[str] | None, work_dir: str) -> dict[str, list[str]]:
    """Files to write of each score.

    Raises:
        ValueError: There are not as many files as scores, two scores of one file, or one is a folder.
    """
    if out is not None:
        if len(out) != len(files):
            raise ValueError(f'--out must name a file for each of the fitted scores {list(files)}, got {out}')
        outputs = {name: [path] for name, path in zip(files, out)}
    else:
        outputs = {name: paths or [osp.join(work_dir, f'{name}.pth')] for name, paths in files.items()}
    flat = [path for paths in outputs.values() for path in paths]
    if len(set(map(osp.abspath, flat))) != len(flat):
        raise ValueError(f'scores of different statistics need files of their own, got {outputs}')
    folders = [path for path in flat if osp.isdir(path)]
    if folders:
        raise ValueError(f'{folders[0]} is a folder: name the file to write')
    return outputs


def describe_job(cfg: Config, model: nn.Module, loader: dict, scores: dict[str, FittedScore], num_images: int,
                 num_found: int, world_size: int) -> dict[str, str]:
    """What partial statistics depend on, by keywords for messages."""
    architecture = {key: value for key, value in cfg.model.to_dict().items() if key not in ('score', 'scores')}
    settings = {
        name: [type(score).__name__, *(score.settings[key] for key in score.fit_settings)]
        for name, score in scores.items()
    }
    parts = dict(
        weights=fingerprint(model),
        model=architecture,
        data=loader['dataset'],
        scores=settings,
        images=[num_images, num_found],
        processes=world_size)
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()
        for name, part in parts.items()
    }


def load_partial(path: str, job: dict[str, str], scores: dict[str, FittedScore]) -> int:
    """Take the statistics of an interrupted run; the number of images that they hold.

    Raises:
        ValueError: The file is of another run, or damaged.
    """
    hint = 'fit anew with --restart'
    try:
        partial = torch.load(path, map_location='cpu', weights_only=True)
        theirs, states, done = partial['job'], partial['states'], partial['done']
    except Exception as error:  # torch raises errors of many types for files of other kinds
        raise ValueError(f'{path} is no partial statistics, or is damaged ({type(error).__name__}): {hint}') from None
    changed = [key for key, value in job.items() if theirs.get(key) != value]
    if changed:
        raise ValueError(f'{path} is of an interrupted run that differs in: {", ".join(changed)}: {hint}')
    for name, score in scores.items():
        score.load_state(states[name])
    return done


def run(fitter: ScoreFitter, loader: dict, dataset: Dataset, indices: list[int], partial: str, job: dict[str, str],
        args: argparse.Namespace) -> None:
    """Gather the statistics of the images of this process."""
    done = 0
    if osp.isfile(partial) and not args.restart:
        done = load_partial(partial, job, fitter.scores)
    rank = get_dist_info()[0]
    if rank == 0 and done:
        print(f'goes on after {done} of {len(indices)} images of this process')
    batches = DataLoader(
        Subset(dataset, indices[done:]),
        batch_size=loader.get('batch_size', 1),
        num_workers=loader.get('num_workers', 0),
        collate_fn=pseudo_collate)
    bar = ProgressBar(len(indices) - done) if rank == 0 and done < len(indices) else None
    saved = done
    for data in batches:
        fitter.update(data)
        done += len(data['inputs'])
        if bar is not None:
            bar.update(len(data['inputs']))
        if done - saved >= args.save_every or done == len(indices):  # making the parameters may take long, too
            states = {name: score.state() for name, score in fitter.scores.items()}
            write_file(partial, checkpoint_bytes(dict(job=job, states=states, done=done)))
            saved = done


def merge_ranks(scores: dict[str, FittedScore]) -> None:
    """Merge the statistics of all processes, one after the other in their order, in each of them."""
    rank, world_size = get_dist_info()
    for score in scores.values():
        merged = copy.copy(score)
        merged.load_state({})
        for source in range(world_size):
            state = [score.state() if rank == source else None]
            broadcast_object_list(state, source)
            other = copy.copy(score)
            other.load_state(state[0])
            merged.merge(other)
        score.load_state(merged.state())


def main(argv: Sequence[str] | None = None) -> dict[str, list[str]]:
    args = parse_args(argv)
    cfg = load_config(args, required=('model', ))
    check_checkpoint_file(args.checkpoint)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    where, loader = find_dataloader(cfg, args.dataloader)
    start_processes(args.launcher)
    rank, world_size = get_dist_info()
    device = f'cuda:{torch.cuda.current_device()}' if torch.cuda.is_available() else 'cpu'
    model = build_model(cfg, args.checkpoint, device)
    if not isinstance(model, AnomalyMixin):
        raise ValueError(f'{type(model).__name__} is no anomaly segmentor: it has no scores')
    fitter = ScoreFitter(model)
    outputs = find_outputs(fitter.files, args.out, cfg.work_dir)
    dataset = DATASETS.build(loader['dataset'])
    classes = check_classes(dataset, model, where)
    num_images = min(args.max_images or len(dataset), len(dataset))
    if not num_images:
        raise ValueError(f'{where} has no images')
    indices = np.linspace(0, len(dataset) - 1, num_images).round().astype(int).tolist()
    if rank == 0:
        print(f'fits {", ".join(fitter.scores)} on {num_images} of {len(dataset)} images of {where}')

    job = describe_job(cfg, model, loader, fitter.scores, num_images, len(dataset), world_size)
    partial = f'{next(iter(outputs.values()))[0]}.partial{rank}'
    run(fitter, loader, dataset, indices[rank::world_size], partial, job, args)
    merge_ranks(fitter.scores)
    for name, score in fitter.scores.items():
        score.finish()
        if rank == 0:
            for path in outputs[name]:
                write_fitted(path, score, model, classes, args.config, num_images)
            print(f'\n{", ".join(outputs[name])}: {name}, fitted on {score.num_pixels} pixels')
    if is_distributed():
        torch.distributed.barrier()
    if osp.isfile(partial):
        os.remove(partial)
    stop_processes()
    return outputs


if __name__ == '__main__':
    main()
