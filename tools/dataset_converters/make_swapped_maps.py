# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Write semantic maps with objects of a wrong class, and their resyntheses, for Image Resynthesis or for SynBoost.

    python tools/dataset_converters/make_swapped_maps.py configs/image_resynthesis/image-resynthesis_cityscapes.py \
        data/cityscapes data/swapped/cityscapes/train
    python tools/dataset_converters/make_swapped_maps.py configs/synboost/synboost_cityscapes.py \
        data/cityscapes data/swapped/cityscapes_synboost/train --recipe synboost

    python -m torch.distributed.run --nproc_per_node 8 tools/dataset_converters/make_swapped_maps.py \
        CONFIG CITYSCAPES OUT --launcher pytorch

Reads ``CITYSCAPES/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png`` and, where there are any,
``NAME_gtFine_instanceIds.png``; without them, the connected components of the thing classes are the objects. A part of
an image's objects gets another class, and the generator of the config's ``model.frozen`` makes an image from that.
Writes, uint8,

    OUT/semantic/CITY/NAME_leftImg8bit.png     train ids with swapped objects, 255 unknown, at the size of the labels
    OUT/synthesis/CITY/NAME_leftImg8bit.png    what the generator makes of them, BGR, at model.frozen.generator_size
    OUT/labels/CITY/NAME_gtFine_anomaly.png    1 swapped, 0 as it was, 255 no train id (--normal-ids: 0)

which a CompositeDataset reads with the images of Cityscapes and ``maps_root=OUT``. What is swapped depends on the seed
and on CITY/NAME only. A run that was interrupted goes on where it stopped; maps of other settings are not mixed with
new ones.

That is from "Detecting the Unexpected via Image Resynthesis" (Lis et al., ICCV 2019). ``--recipe synboost`` writes what
"Pixel-wise Anomaly Detection in Complex Driving Scenes" (Di Biase et al., CVPR 2021) trains on: the part of the objects
is drawn anew for each image, their classes by SynBoost's weights; elsewhere the map is what the segmenter predicts of
the image; void pixels (static and dynamic) are anomalies, too; and ``entropy``, ``perceptual`` and ``distance`` are
written beside the others, the semantic map at ``segmenter_size``. All of ``model.frozen`` is run.
"""
import argparse
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_dist_info
from mmseg.registry import MODELS
from torch.utils.data import Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))
from mgcda.engine.launch import export_local_rank, start_processes, stop_processes

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from map_writer import (
    MAP_LAYOUT,
    add_run_options,
    claim,
    device_of,
    frozen_settings,
    read_frozen,
    to_uint8,
    write_missing,
)

from mgcda.datasets.image_io import read_image, read_plane
from mgcda.datasets.maps import map_files
from mgcda.datasets.pairing import list_files, listing, pair_by_name
from mgcda.datasets.swapped_classes import (
    SYNBOOST_CLASS_WEIGHTS,
    find_instances,
    name_generator,
    swap_classes,
    swap_target,
)
from mgcda.labels import (
    CITYSCAPES_VOID_LABEL_IDS,
    NORMAL,
    UNKNOWN_TRAIN_ID,
    VOID_CLASS_ANOMALY_IDS,
    label_id_to_train_id,
)
from mgcda.models.builder import load_network
from mgcda.models.frozen_maps import synthesize
from mgcda.structures.dissimilarity import MAP_KINDS, MAP_SCALES, REQUIRED_KINDS

SETTINGS_FILE = 'swapped_maps.json'
IMAGE_SUFFIXES = ('_leftImg8bit.png', '_leftImg8bit.jpg')
#: Smallest connected component that counts as an object, as a part of the image: 750 pixels of 512x1024 (Lis et al.).
MIN_COMPONENT = 750 / (512 * 1024)
LIS, SYNBOOST = 'lis', 'synboost'


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Write semantic maps with swapped classes and their resyntheses')
    parser.add_argument('config', help='config whose model.frozen names the generator')
    parser.add_argument('cityscapes', help='folder with leftImg8bit and gtFine')
    parser.add_argument('out', help='folder to write, the maps_root of a data set')
    parser.add_argument('--split', default='train', help='folder below leftImg8bit and gtFine')
    parser.add_argument('--recipe', choices=[LIS, SYNBOOST], default=LIS, help='whose training data to write')
    parser.add_argument('--seed', type=int, default=0, help='of the swaps, >= 0')
    parser.add_argument(
        '--fraction',
        type=float,
        help='part of the objects of an image that is swapped; default: 0.5, or drawn for '
        'each image from [0, 1) by the recipe of SynBoost')
    parser.add_argument(
        '--void-ids',
        type=int,
        nargs='+',
        choices=CITYSCAPES_VOID_LABEL_IDS,
        help='label ids whose pixels are anomalies by the recipe of SynBoost; default: 4 5, static and dynamic')
    parser.add_argument(
        '--normal-ids',
        type=int,
        nargs='+',
        choices=CITYSCAPES_VOID_LABEL_IDS,
        default=[],
        help='label ids without a train id whose pixels count as normal, such as 1, the ego vehicle; default: none')
    parser.add_argument(
        '--instances',
        choices=['auto', 'ids', 'components'],
        default='auto',
        help='what objects are: those of the '
        'instanceIds files, or the connected components of the thing classes; auto: ids where there are such files')
    parser.add_argument(
        '--min-area',
        type=float,
        help='smallest object, as a part of the image; default: 0 with ids, '
        f'{MIN_COMPONENT:.5f} with components')
    add_run_options(parser)
    args = parser.parse_args()
    wrong_fraction = args.fraction is not None and not 0 < args.fraction <= 1
    if args.seed < 0 or wrong_fraction or not 0 <= (args.min_area or 0) < 1:
        parser.error('--seed must be >= 0, --fraction in (0, 1], --min-area in [0, 1)')
    if args.void_ids and args.recipe != SYNBOOST:
        parser.error('--void-ids needs --recipe synboost: otherwise void pixels are ignored')
    if args.fraction is None and args.recipe == LIS:
        args.fraction = 0.5
    args.void_ids = args.void_ids or list(VOID_CLASS_ANOMALY_IDS)
    both = sorted(set(args.void_ids) & set(args.normal_ids)) if args.recipe == SYNBOOST else []
    if both:
        parser.error(f'label ids cannot be both anomalies (--void-ids) and normal (--normal-ids): {both}')
    return args


def find_labels(root: str, split: str, instances: str) -> dict[str, tuple[str, str | None]]:
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


def files_of(out: str, image: str, kinds: Sequence[str]) -> dict[str, str]:
    """Paths of what is written for an image, by kind."""
    label = image[:image.rindex('_leftImg8bit.')] + '_gtFine_anomaly.png'
    return dict(map_files(out, image, kinds), labels=os.path.join(out, 'labels', label))


class SwappedMaps(Dataset):
    """Swapped semantic maps and their targets, by the recipe of Lis et al.

    A sample is (image, train ids (H, W) uint8, target (H, W) uint8).
    """

    def __init__(self, names: list[str], files: dict[str, tuple[str, str | None]], args: argparse.Namespace) -> None:
        self.names = names
        self.files = files
        self.args = args
        self.table = label_id_to_train_id()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple:
        image = self.names[index]
        label_ids, instances = self.read(image)
        train_ids = self.table[label_ids]
        swapped = swap_classes(train_ids, instances, self.args.fraction, self.generator(image))
        return image, torch.from_numpy(swapped), torch.from_numpy(self.target(label_ids, swapped))

    def target(self, label_ids: np.ndarray, swapped: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
        """Target of a swapped map, as of :func:`swap_target`, 0 also at the label ids that count as normal."""
        target = swap_target(self.table[label_ids], swapped, void)
        target[np.isin(label_ids, self.args.normal_ids)] = NORMAL
        return target

    def read(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """Label ids and objects of an image, (H, W) each."""
        label_file, instance_file = self.files[image]
        label_ids = read_plane(label_file)
        if label_ids.dtype != np.uint8:
            raise ValueError(f'label file {label_file} holds {label_ids.dtype}; it must be of 8 bits')
        instance_ids = None if instance_file is None else read_plane(instance_file, 'instance file')
        try:
            return label_ids, find_instances(label_ids, instance_ids, round(self.args.min_area * label_ids.size))
        except ValueError as error:
            raise ValueError(f'{instance_file}: {error}') from error

    def generator(self, image: str) -> np.random.Generator:
        """Random numbers of an image."""
        return name_generator(self.args.seed, image[:image.rindex('_leftImg8bit.')])


class SynBoostMaps(SwappedMaps):
    """What SynBoost's recipe swaps in what the segmenter will predict.

    A sample is (image, its pixels BGR (H, W, 3) uint8, train ids (H, W) uint8 of the swapped objects and 255 elsewhere,
    target (H, W) uint8).
    """

    def __getitem__(self, index: int) -> tuple:
        image = self.names[index]
        label_ids, instances = self.read(image)
        path = os.path.join(self.args.cityscapes, 'leftImg8bit', self.args.split, image)
        pixels = read_image(path)
        if pixels.shape[:2] != label_ids.shape:
            raise ValueError(f'image {path} of the size {pixels.shape[:2]} does not fit its label of {label_ids.shape}')
        train_ids, rng = self.table[label_ids], self.generator(image)
        fraction = rng.random() if self.args.fraction is None else self.args.fraction
        swapped = swap_classes(train_ids, instances, fraction, rng, SYNBOOST_CLASS_WEIGHTS)
        target = self.target(label_ids, swapped, void=np.isin(label_ids, self.args.void_ids))
        replaced = np.where(swapped != train_ids, swapped, np.uint8(UNKNOWN_TRAIN_ID))
        return image, torch.from_numpy(pixels), torch.from_numpy(replaced), torch.from_numpy(target)


def lis_maker(frozen: ConfigDict, device: str) -> Callable[..., dict[str, np.ndarray]]:
    """What makes the images to write of a sample of :class:`SwappedMaps`, with the generator alone."""
    generator = load_network(frozen.generator, 'frozen.generator', child='generator').to(device)
    size = tuple(frozen.generator_size)

    @torch.no_grad()
    def make(swapped: torch.Tensor, target: torch.Tensor) -> dict[str, np.ndarray]:
        synthesis = synthesize(generator, swapped.to(device)[None, None].long(), size)
        return dict(semantic=swapped.numpy(), synthesis=to_uint8(synthesis), labels=target.numpy())

    return make


def synboost_maker(frozen: ConfigDict, device: str) -> Callable[..., dict[str, np.ndarray]]:
    """What makes the images to write of a sample of :class:`SynBoostMaps`, with all frozen networks.

    Raises:
        ValueError: The config's frozen networks make no uncertainty maps.
    """
    if not frozen.get('uncertainty', True):
        raise ValueError('--recipe synboost needs uncertainty maps: name a config without '
                         'model.frozen.uncertainty=False')
    network = MODELS.build(frozen).to(device)

    def make(pixels: torch.Tensor, replaced: torch.Tensor, target: torch.Tensor) -> dict[str, np.ndarray]:
        maps = network(pixels.to(device).permute(2, 0, 1)[None].float(), replaced.to(device)[None, None])
        return dict({kind: to_uint8(maps[kind], MAP_SCALES[kind]) for kind in MAP_KINDS}, labels=target.numpy())

    return make


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
    settings = dict(seed=args.seed, fraction=args.fraction, instances=source, min_area=args.min_area)
    if args.normal_ids:
        settings.update(normal_ids=sorted(set(args.normal_ids)))
    device = device_of(args)
    if args.recipe == LIS:
        kinds, samples, make = REQUIRED_KINDS, SwappedMaps, lis_maker(frozen, device)
        settings.update(generator=frozen.generator.to_dict(), generator_size=tuple(frozen.generator_size), **MAP_LAYOUT)
    else:
        kinds, samples, make = MAP_KINDS, SynBoostMaps, synboost_maker(frozen, device)
        settings.update(recipe=args.recipe, void_ids=sorted(args.void_ids), frozen=frozen_settings(frozen))
    claim(args, SETTINGS_FILE, settings, (*MAP_KINDS, 'labels'))
    if get_dist_info()[0] == 0:
        what = '*_gtFine_instanceIds.png' if source == 'ids' else 'connected components (no instance files are used)'
        print(f'objects: {what}')
    written = write_missing(args, list(files), lambda name: files_of(args.out, name, kinds),
                            lambda todo: samples(todo, files, args), make)
    if get_dist_info()[0] == 0:
        print(f'\n{written} of {len(files)} images: {len(kinds)} maps and a label each written to {args.out}, '
              f'{len(files) - written} were there already')
    stop_processes()


if __name__ == '__main__':
    main()
