# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Write the maps of the frozen networks for a folder of images.

    python tools/dataset_converters/make_maps.py configs/mgcda_cityscapes.py \
        data/cityscapes/leftImg8bit/train data/maps/cityscapes/train

    python -m torch.distributed.run --nproc_per_node 8 tools/dataset_converters/make_maps.py CONFIG IMAGES OUT \
        --launcher pytorch

Writes ``OUT/{synthesis,semantic,entropy,perceptual,distance}/NAME.png`` for every image ``IMAGES/**/NAME.{png,jpg}``,
uint8, as ``model.frozen`` of the config makes them (its ``uncertainty=False`` leaves the last three out): synthesis and
perceptual at its ``generator_size``, the others at its ``segmenter_size``. A run that was interrupted goes on where it
stopped: a map that exists is complete. Maps that other settings made are not mixed with new ones.
"""
import argparse
import os
import sys
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmseg.registry import MODELS
from torch.utils.data import Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))
from mgcda.engine.launch import export_local_rank, start_processes, stop_processes

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from map_writer import (
    add_run_options,
    claim,
    device_of,
    frozen_settings,
    read_frozen,
    to_uint8,
    write_missing,
)

from mgcda.datasets.image_io import read_image
from mgcda.datasets.maps import map_files
from mgcda.structures.dissimilarity import MAP_KINDS, MAP_SCALES, REQUIRED_KINDS

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')
SETTINGS_FILE = 'maps.json'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Write the maps of the frozen networks for a folder of images')
    parser.add_argument('config', help='config whose model.frozen describes the frozen networks')
    parser.add_argument('images', help='folder of images, searched recursively')
    parser.add_argument('out', help='folder of maps to write, the maps_root of a data set')
    parser.add_argument(
        '--suffixes',
        nargs='+',
        default=IMAGE_SUFFIXES,
        help='what images end on, in small or capital letters; '
        'RoadAnomaly keeps PNG labels beside its images: --suffixes .jpg')
    add_run_options(parser)
    return parser.parse_args()


class ImageFolder(Dataset):
    """Images of a folder as (relative path, BGR uint8 (H, W, 3))."""

    def __init__(self, root: str, names: list[str]) -> None:
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple:
        name = self.names[index]
        return name, torch.from_numpy(read_image(os.path.join(self.root, name)))


def find_images(root: str, suffixes: Sequence[str]) -> list[str]:
    """Relative paths of the images below ``root``, sorted."""
    suffixes = tuple(suffix.lower() for suffix in suffixes)
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


def main() -> None:
    """Run the command line."""
    args = parse_args()
    frozen = read_frozen(args)
    export_local_rank(args)
    start_processes(args.launcher)
    names = find_images(args.images, args.suffixes)
    kinds = MAP_KINDS if frozen.get('uncertainty', True) else REQUIRED_KINDS
    device = device_of(args)
    network = MODELS.build(frozen).to(device)
    claim(args, SETTINGS_FILE, frozen_settings(frozen), MAP_KINDS)

    def make(image: torch.Tensor) -> dict[str, np.ndarray]:
        maps = network(image.to(device).permute(2, 0, 1)[None].float())
        return {kind: to_uint8(maps[kind], MAP_SCALES[kind]) for kind in kinds}

    written = write_missing(args, names, lambda name: map_files(args.out, name, kinds),
                            lambda todo: ImageFolder(args.images, todo), make)
    if get_dist_info()[0] == 0:
        print(f'\n{written} of {len(names)} images: {len(kinds)} maps each written to {args.out}, '
              f'{len(names) - written} were there already')
    stop_processes()


if __name__ == '__main__':
    main()
