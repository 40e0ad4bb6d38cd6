# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Write the maps of the frozen networks for a folder of images.

    python tools/dataset_converters/make_maps.py configs/mgcda_cityscapes.py \
        data/cityscapes/leftImg8bit/train data/maps/cityscapes/train

    python -m torch.distributed.run --nproc_per_node 8 tools/dataset_converters/make_maps.py CONFIG IMAGES OUT \
        --launcher pytorch

Writes ``OUT/{synthesis,semantic,entropy,perceptual,distance}/NAME.png`` for every image ``IMAGES/**/NAME.{png,jpg}``,
uint8, at the image's own size, as ``model.frozen`` of the config makes them. A run that was interrupted goes on where it
stopped: a map that exists is complete. Maps that other settings made are not mixed with new ones.
"""
import argparse
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Dict, List, Sequence

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dist import barrier, collect_results, get_dist_info, init_dist, is_distributed
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar, import_modules_from_strings
from mmseg.registry import MODELS
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from launch_utils import start_gloo, stop_processes  # noqa: E402

from mgcda.datasets.image_io import read_image  # noqa: E402
from mgcda.datasets.maps import MAP_KINDS, map_files  # noqa: E402
from mgcda.files import claim_folder, write_png  # noqa: E402

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')
SETTINGS_FILE = 'maps.json'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Write the maps of the frozen networks for a folder of images')
    parser.add_argument('config', help='config whose model.frozen describes the frozen networks')
    parser.add_argument('images', help='folder of images, searched recursively')
    parser.add_argument('out', help='folder of maps to write, the maps_root of a data set')
    parser.add_argument(
        '--suffixes', nargs='+', default=IMAGE_SUFFIXES, help='what images end on; RoadAnomaly keeps PNG labels '
        'beside its images: --suffixes .jpg')
    parser.add_argument('--overwrite', action='store_true', help='make maps again that exist already')
    parser.add_argument('--workers', type=int, default=2, help='processes that read and threads that write, a rank')
    parser.add_argument('--device', default=None, help='default: the GPU of the rank, or the CPU')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


class ImageFolder(Dataset):
    """Images of a folder as (relative path, BGR uint8 (H, W, 3))."""

    def __init__(self, root: str, names: List[str]) -> None:
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple:
        name = self.names[index]
        return name, torch.from_numpy(read_image(os.path.join(self.root, name)))


def find_images(root: str, suffixes: Sequence[str]) -> List[str]:
    """Relative paths of the images below ``root``, sorted."""
    suffixes = tuple(suffixes)
    if not os.path.isdir(root):
        raise FileNotFoundError(f'folder of images not found: {root}')
    names = [
        os.path.relpath(os.path.join(folder, name), root) for folder, _, files in os.walk(root, followlinks=True)
        for name in files if name.lower().endswith(suffixes) and not name.startswith('.')
    ]
    if not names:
        raise FileNotFoundError(f'no images in {root}: nothing there ends on {" or ".join(suffixes)}')
    stems = [os.path.splitext(name)[0] for name in names]
    if len(set(stems)) < len(stems):
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        raise ValueError(f'images in {root} that differ in their suffix only would share their maps: {twice[:10]}')
    return sorted(names)


def to_uint8(maps: Dict[str, torch.Tensor]) -> Dict[str, np.ndarray]:
    """Maps of one image as they lie on disk."""
    scale = dict(synthesis=1, semantic=1, entropy=255, perceptual=255, distance=255)
    arrays = {}
    for kind in MAP_KINDS:
        array = (maps[kind][0] * scale[kind]).round().to(torch.uint8).cpu().numpy()
        arrays[kind] = array.transpose(1, 2, 0) if kind == 'synthesis' else array[0]
    return arrays


def write_maps(paths: Dict[str, str], arrays: Dict[str, np.ndarray]) -> None:
    """Write the maps of one image."""
    for kind, path in paths.items():
        write_png(path, arrays[kind])


def start_processes(launcher: str) -> None:
    """Start the process group of the launcher: NCCL where there is a GPU, gloo elsewhere."""
    if not torch.cuda.is_available():
        start_gloo(launcher)
    elif launcher != 'none' and not is_distributed():
        init_dist(launcher)


def main() -> None:
    """Run the command line."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    frozen = cfg.model.get('frozen')
    if frozen is None:
        raise ValueError(f'{args.config} has no model.frozen, the networks that make the maps')
    start_processes(args.launcher)
    rank, world_size = get_dist_info()

    names = find_images(args.images, args.suffixes)
    if rank == 0:
        claim_folder(os.path.join(args.out, SETTINGS_FILE), frozen.to_dict(), 'maps', args.overwrite)
    barrier()
    mine = names[rank::world_size]
    todo = [
        name for name in mine
        if args.overwrite or not all(os.path.isfile(path) for path in map_files(args.out, name).values())
    ]
    device = args.device or (f'cuda:{torch.cuda.current_device()}' if torch.cuda.is_available() else 'cpu')
    network = MODELS.build(frozen).to(device)

    loader = DataLoader(ImageFolder(args.images, todo), batch_size=None, num_workers=args.workers)
    bar = ProgressBar(len(todo)) if rank == 0 and todo else None
    with ThreadPoolExecutor(max(args.workers, 1)) as pool:
        pending: List[Future] = []
        for name, image in loader:
            images = image.to(device).permute(2, 0, 1)[None].float()
            pending.append(pool.submit(write_maps, map_files(args.out, name), to_uint8(network(images))))
            while len(pending) > 4 * max(args.workers, 1):
                pending.pop(0).result()
            if bar is not None:
                bar.update()
        for future in pending:
            future.result()

    written = collect_results([len(todo)], world_size, device='cpu')
    if rank == 0:
        print(f'\n{sum(written)} of {len(names)} images: {len(MAP_KINDS)} maps each written to {args.out}, '
              f'{len(names) - sum(written)} were there already')
    stop_processes()


if __name__ == '__main__':
    main()
