# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Write the training data of Image Resynthesis: semantic maps with objects of a wrong class, and their resyntheses.

    python tools/dataset_converters/make_swapped_maps.py configs/image_resynthesis/image-resynthesis_cityscapes.py \
        data/cityscapes data/swapped/cityscapes/train

    python -m torch.distributed.run --nproc_per_node 8 tools/dataset_converters/make_swapped_maps.py \
        CONFIG CITYSCAPES OUT --launcher pytorch

Reads ``CITYSCAPES/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`` and, where there are any,
``NAME_gtFine_instanceIds.png``; without them, the connected components of the thing classes are the objects. A part of
an image's objects gets another class, and the generator of the config's ``model.frozen`` makes an image from that.
Writes, at the size of the labels, uint8,

    OUT/semantic/CITY/NAME_leftImg8bit.png     train ids with swapped objects, 255 unknown
    OUT/synthesis/CITY/NAME_leftImg8bit.png    what the generator makes of them, BGR
    OUT/labels/CITY/NAME_gtFine_anomaly.png    1 swapped, 0 as it was, 255 no train id

which a CompositeDataset reads with the images of Cityscapes and ``maps_root=OUT``. What is swapped depends on the seed
and on CITY/NAME only. A run that was interrupted goes on where it stopped; maps of other settings are not mixed with
new ones.

From "Detecting the Unexpected via Image Resynthesis" (Lis et al., ICCV 2019).
"""
import argparse
import os
import sys
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from launch_utils import export_local_rank, start_processes, stop_processes  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from map_writer import add_run_options, claim, device_of, read_frozen, to_uint8, write_missing  # noqa: E402

from mgcda.datasets.image_io import read_plane  # noqa: E402
from mgcda.datasets.maps import REQUIRED_KINDS, map_files  # noqa: E402
from mgcda.datasets.pairing import list_files, listing, pair_by_name  # noqa: E402
from mgcda.datasets.swapped_classes import find_instances, name_generator, swap_classes, swap_target  # noqa: E402
from mgcda.labels import label_id_to_train_id  # noqa: E402
from mgcda.models.frozen_maps import bilinear_resize, synthesize  # noqa: E402
from mgcda.models.network_loading import load_network  # noqa: E402

SETTINGS_FILE = 'swapped_maps.json'
IMAGE_SUFFIXES = ('_leftImg8bit.png', '_leftImg8bit.jpg')
#: Smallest connected component that counts as an object, as a part of the image: 750 pixels of 512x1024 (Lis et al.).
MIN_COMPONENT = 750 / (512 * 1024)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Write semantic maps with swapped classes and their resyntheses')
    parser.add_argument('config', help='config whose model.frozen names the generator')
    parser.add_argument('cityscapes', help='folder with leftImg8bit and gtFine')
    parser.add_argument('out', help='folder to write, the maps_root of a data set')
    parser.add_argument('--split', default='train', help='folder below leftImg8bit and gtFine')
    parser.add_argument('--seed', type=int, default=0, help='of the swaps, >= 0')
    parser.add_argument('--fraction', type=float, default=0.5, help='part of the objects of an image that is swapped')
    parser.add_argument(
        '--instances', choices=['auto', 'ids', 'components'], default='auto', help='what objects are: those of the '
        'instanceIds files, or the connected components of the thing classes; auto: ids where there are such files')
    parser.add_argument(
        '--min-area', type=float, help='smallest object, as a part of the image; default: 0 with ids, '
        f'{MIN_COMPONENT:.5f} with components')
    add_run_options(parser)
    args = parser.parse_args()
    if args.seed < 0 or not 0 < args.fraction <= 1 or not 0 <= (args.min_area or 0) < 1:
        parser.error('--seed must be >= 0, --fraction in (0, 1], --min-area in [0, 1)')
    return args


def find_labels(root: str, split: str, instances: str) -> Dict[str, Tuple[str, Optional[str]]]:
    """Label file and, where objects come from them, instance file of every image: image -> paths.

    Raises:
        FileNotFoundError: A folder is missing or empty, or there are no instance files, which were asked for.
        ValueError: Files do not pair up; some images have an instance file and others have none.
    """
    images = list_files(os.path.join(root, 'leftImg8bit', split), IMAGE_SUFFIXES, 'images')
    folder = os.path.join(root, 'gtFine', split)
    labels = list_files(folder, '_gtFine_labelIds.png', 'label files')
    found = {image: os.path.join(folder, label) for image, label in pair_by_name(images, labels, 'label file', folder)}
    if instances == 'components':
        return {image: (label, None) for image, label in found.items()}
    pairs = {image: (label, label.replace('_labelIds.png', '_instanceIds.png')) for image, label in found.items()}
    missing = [path for _, path in pairs.values() if not os.path.isfile(path)]
    if not missing:
        return pairs
    if instances == 'ids' or len(missing) < len(pairs):
        error = FileNotFoundError if instances == 'ids' else ValueError
        raise error(f'{len(missing)} of {len(pairs)} images in {folder} have no *_gtFine_instanceIds.png: '
                    f'{listing(missing)}; complete them, or take --instances components')
    return {image: (label, None) for image, label in found.items()}


def files_of(out: str, image: str) -> Dict[str, str]:
    """Paths of what is written for an image, by kind."""
    label = image[:image.rindex('_leftImg8bit.')] + '_gtFine_anomaly.png'
    return dict(map_files(out, image, REQUIRED_KINDS), labels=os.path.join(out, 'labels', label))


class SwappedMaps(Dataset):
    """Swapped semantic maps and their targets: (image, train ids (H, W) uint8, target (H, W) uint8)."""

    def __init__(self, names: List[str], files: Dict[str, Tuple[str, Optional[str]]], args: argparse.Namespace) -> None:
        self.names = names
        self.files = files
        self.args = args
        self.table = label_id_to_train_id()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple:
        image = self.names[index]
        label_file, instance_file = self.files[image]
        label_ids = read_plane(label_file)
        if label_ids.dtype != np.uint8:
            raise ValueError(f'label file {label_file} holds {label_ids.dtype}; it must be of 8 bits')
        instance_ids = None if instance_file is None else read_plane(instance_file, 'instance file')
        try:
            instances = find_instances(label_ids, instance_ids, round(self.args.min_area * label_ids.size))
        except ValueError as error:
            raise ValueError(f'{instance_file}: {error}') from error
        train_ids = self.table[label_ids]
        rng = name_generator(self.args.seed, image[:image.rindex('_leftImg8bit.')])
        swapped = swap_classes(train_ids, instances, self.args.fraction, rng)
        return image, torch.from_numpy(swapped), torch.from_numpy(swap_target(train_ids, swapped))


def main() -> None:
    """Run the command line."""
    args = parse_args()
    frozen = read_frozen(args)
    export_local_rank(args)
    start_processes(args.launcher)
    files = find_labels(args.cityscapes, args.split, args.instances)
    source = 'components' if next(iter(files.values()))[1] is None else 'ids'
    if args.min_area is None:
        args.min_area = MIN_COMPONENT if source == 'components' else 0.0
    size, device = tuple(frozen.generator_size), device_of(args)
    generator = load_network(frozen.generator, 'frozen.generator', child='generator').to(device).eval()
    claim(args, SETTINGS_FILE, dict(
        generator=frozen.generator.to_dict(), generator_size=size, seed=args.seed, fraction=args.fraction,
        instances=source, min_area=args.min_area))

    @torch.no_grad()
    def make(swapped: torch.Tensor, target: torch.Tensor) -> Dict[str, np.ndarray]:
        synthesis = synthesize(generator, swapped.to(device)[None, None].long(), size)
        synthesis = bilinear_resize(synthesis, tuple(swapped.shape))
        return dict(semantic=swapped.numpy(), synthesis=to_uint8(synthesis), labels=target.numpy())

    if get_dist_info()[0] == 0:
        what = '*_gtFine_instanceIds.png' if source == 'ids' else 'connected components (no instance files are used)'
        print(f'objects: {what}')
    written = write_missing(args, list(files), lambda name: files_of(args.out, name),
                            lambda todo: SwappedMaps(todo, files, args), make)
    if get_dist_info()[0] == 0:
        print(f'\n{written} of {len(files)} images: semantic map, synthesis and label written to {args.out}, '
              f'{len(files) - written} were there already')
    stop_processes()


if __name__ == '__main__':
    main()
