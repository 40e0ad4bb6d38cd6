# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What the tools that write maps share: their options, their processes, and the loop that makes what is missing."""
import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dist import barrier, collect_results, get_dist_info
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar, import_modules_from_strings
from torch.utils.data import DataLoader, Dataset

from mgcda.engine.launch import read_config
from mgcda.files import claim_folder, hash_files, write_png

#: What a map is multiplied by to fill 0..255.
MAP_SCALES = dict(synthesis=1, semantic=1, entropy=255, perceptual=255, distance=255)
#: Noted among the settings of a folder: earlier versions wrote all maps at the size of the image.
MAP_LAYOUT = dict(map_sizes='of the networks')


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of how a tool runs, not of what it writes."""
    parser.add_argument('--overwrite', action='store_true', help='make maps again that exist already')
    parser.add_argument('--workers', type=int, default=2, help='processes that read and threads that write, a rank')
    parser.add_argument('--device', default=None, help='default: the GPU of the rank, or the CPU')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def read_frozen(args: argparse.Namespace) -> Config:
    """``model.frozen`` of the config, whose imports are made.

    Raises:
        ValueError: The config has no frozen networks.
    """
    cfg = read_config(args.config, args.cfg_options)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    frozen = (cfg.get('model') or {}).get('frozen')
    if frozen is None:
        raise ValueError(f'{args.config} has no model.frozen, the networks that make the maps')
    return frozen


def frozen_settings(frozen: Config) -> dict[str, object]:
    """Settings that maps of these networks depend on, for the folder that they are written to."""
    interpolation = frozen.get('segmenter_interpolation', 'bicubic')
    return dict(frozen.to_dict(), **MAP_LAYOUT, segmenter_interpolation=interpolation)


def device_of(args: argparse.Namespace) -> str:
    """The device that the options name, or that of the rank."""
    return args.device or (f'cuda:{torch.cuda.current_device()}' if torch.cuda.is_available() else 'cpu')


def claim(args: argparse.Namespace, file: str, settings: dict, kinds: Sequence[str]) -> None:
    """Note the settings in the folder to write, or refuse it where it holds maps of others; one rank for all.

    Settings are noted with hashes of the weights that they name; folders that note none are taken as they are.
    ``kinds``: folders of the maps.
    """
    if get_dist_info()[0] == 0:
        made = (path for kind in kinds for path in Path(args.out, kind).rglob('*.png'))
        settings = dict(settings, sha256=hash_files(settings))
        claim_folder(os.path.join(args.out, file), settings, 'maps', args.overwrite, made, optional=['sha256'])
    barrier()


def write_missing(args: argparse.Namespace, names: list[str], paths: Callable[[str], dict[str, str]],
                  read: Callable[[list[str]], Dataset], make: Callable[..., dict[str, np.ndarray]]) -> int:
    """Make and write the files that are missing, this rank's part of the names.

    Args:
        names: Of all samples, the same on every rank.
        paths: The files of a sample, by kind.
        read: Data set of the named samples, each (name, what ``make`` takes), read in ``args.workers`` processes.
        make: Images to write, by kind; runs in this process.

    Returns:
        int: Number of samples that were written by all ranks, on rank 0.
    """
    rank, world_size = get_dist_info()
    todo = [
        name for name in names[rank::world_size]
        if args.overwrite or not all(os.path.isfile(path) for path in paths(name).values())
    ]
    loader = DataLoader(read(todo), batch_size=None, num_workers=args.workers)
    bar = ProgressBar(len(todo)) if rank == 0 and todo else None
    with ThreadPoolExecutor(max(args.workers, 1)) as pool:
        pending: list[Future] = []
        for name, *inputs in loader:
            pending.append(pool.submit(write_images, paths(name), make(*inputs)))
            while len(pending) > 4 * max(args.workers, 1):
                pending.pop(0).result()
            if bar is not None:
                bar.update()
        for future in pending:
            future.result()
    return sum(collect_results([len(todo)], world_size, device='cpu') or [0])


def write_images(paths: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
    """Write the images of one sample."""
    for kind, path in paths.items():
        write_png(path, arrays[kind])


def to_uint8(value: torch.Tensor, scale: float = 1) -> np.ndarray:
    """A map (1, C, H, W) as it lies on disk, (H, W) or (H, W, 3)."""
    array = (value[0] * scale).round().to(torch.uint8).cpu().numpy()
    return array[0] if len(array) == 1 else array.transpose(1, 2, 0)
