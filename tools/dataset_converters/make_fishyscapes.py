# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Make the validation sets of Fishyscapes from what the benchmark publishes.

Static, from Cityscapes and labels with overlays; LostAndFound, from its images and Fishyscapes' labels:

    python tools/dataset_converters/make_fishyscapes.py data/cityscapes/leftImg8bit/val data/fishyscapes/fs_val_v3 \
        data/fishyscapes/Static
    python tools/dataset_converters/make_fishyscapes.py data/lost_and_found/leftImg8bit \
        data/fishyscapes/fishyscapes_lostandfound data/fishyscapes/LostAndFound

The same frames of LostAndFound with its original masks (0 -> 255, 1 -> 0, 2 to 200 -> 1):

    python tools/dataset_converters/make_fishyscapes.py data/lost_and_found/leftImg8bit \
        data/fishyscapes/fishyscapes_lostandfound data/fishyscapes/OriginalLostAndFound \
        --masks data/lost_and_found/gtCoarse

Writes ``OUT/original/NNNN_NAME.png`` and ``OUT/labels/NNNN_NAME.png`` (0 normal, 1 anomaly, 255 void), the layout
'original' of FishyscapesDataset. An image with an overlay is clip(image + npz['rgb'], 0, 255). A run that was
interrupted goes on where it stopped; images of other settings are not mixed with new ones.
"""
import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))

from mgcda.datasets import FishyscapesDataset
from mgcda.datasets.lost_and_found import LABEL_MAP
from mgcda.datasets.pairing import by_base_name, list_files, listing
from mgcda.utils.files import claim_folder, write_png

SETTINGS_FILE = 'fishyscapes.json'
LABEL_SUFFIX, MASK_SUFFIX, IMAGE_SUFFIX = '_labels.png', '_gtCoarse_labelIds.png', '_leftImg8bit.png'
#: Number of images of LostAndFound and of Static.
NUM_IMAGES = (100, 30)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Make the validation sets of Fishyscapes')
    parser.add_argument('images', help='folder with NAME_leftImg8bit.png of Cityscapes or LostAndFound, at any depth')
    parser.add_argument('labels', help='folder with NNNN_NAME_labels.png and, for Static, NNNN_NAME_rgb.npz')
    parser.add_argument('out', help='folder to write, the data_root of a FishyscapesDataset')
    parser.add_argument(
        '--masks',
        help='folder with NAME_gtCoarse_labelIds.png of LostAndFound, at any depth: the masks to write in place of '
        "Fishyscapes' labels")
    parser.add_argument('--workers', type=int, default=2, help='processes that make and write images')
    parser.add_argument('--overwrite', action='store_true', help='make images again that exist already')
    args = parser.parse_args(argv)
    if args.workers < 0:
        parser.error('--workers must be >= 0')
    return args


def find_masks(folder: str, names: Sequence[str]) -> dict[str, str]:
    """Masks of LostAndFound of the named frames: name -> path."""
    masks = by_base_name(list_files(folder, MASK_SUFFIX, 'masks'), 'masks', folder)
    missing = [name for name in names if name not in masks]
    if missing:
        raise ValueError(f'{len(missing)} frames have no mask NAME{MASK_SUFFIX} below {folder}: {listing(missing)}')
    return {name: os.path.join(folder, masks[name]) for name in names}


class Writer(Dataset):
    """Making an image with its label and writing both, as the work of a dataloader's processes."""

    def __init__(self, dataset: FishyscapesDataset, out: str, masks: str | None) -> None:
        self.dataset = dataset
        self.out = out
        self.masks = {} if masks is None else find_masks(masks, [self.frame(i) for i in range(len(dataset))])
        self.numbers: list[int] = list(range(len(dataset)))

    def frame(self, number: int) -> str:
        """Name of the frame that an image is made of."""
        return os.path.basename(self.dataset.get_data_info(number)['img_path']).removesuffix(IMAGE_SUFFIX)

    def paths(self, number: int) -> tuple[str, str]:
        """Files of image and label."""
        label = os.path.basename(self.dataset.get_data_info(number)['seg_map_path'])
        name = label.removesuffix(LABEL_SUFFIX) + '.png'
        return os.path.join(self.out, 'original', name), os.path.join(self.out, 'labels', name)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, item: int) -> int:
        number = self.numbers[item]
        info = self.dataset.get_data_info(number)
        if self.masks:
            info.update(seg_map_path=self.masks[self.frame(number)], label_map=LABEL_MAP)
        results = self.dataset.pipeline(info)
        image_path, label_path = self.paths(number)
        write_png(label_path, results['gt_seg_map'])
        write_png(image_path, results['img'])
        return number


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    init_default_scope('mmseg')
    dataset = FishyscapesDataset(
        layout='official',
        data_prefix=dict(img_path=args.images, seg_map_path=args.labels),
        pipeline=[dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')],
        test_mode=True)
    overlays = 'overlay_path' in dataset.get_data_info(0)
    if overlays and args.masks is not None:
        raise ValueError(f'--masks are of LostAndFound, but {args.labels} has overlays, which make Static')
    writer = Writer(dataset, args.out, args.masks)
    settings = dict(
        labels=os.path.basename(os.path.normpath(args.labels)),
        overlays=overlays,
        original_masks=args.masks is not None)
    made = (path for kind in ('original', 'labels') for path in Path(args.out, kind).glob('*.png'))
    claim_folder(os.path.join(args.out, SETTINGS_FILE), settings, 'images', args.overwrite, made)
    total = len(dataset)
    writer.numbers = [n for n in range(total) if args.overwrite or not all(map(os.path.isfile, writer.paths(n)))]
    if len(writer):
        bar = ProgressBar(len(writer))
        for _ in DataLoader(writer, batch_size=None, num_workers=args.workers):
            bar.update()
    print(f'\n{len(writer)} of {total} images with labels written to {args.out}, {total - len(writer)} were there '
          'already')
    if total != NUM_IMAGES[overlays]:
        print(f'The official set has {NUM_IMAGES[overlays]} images: results of this one do not compare')


if __name__ == '__main__':
    main()
