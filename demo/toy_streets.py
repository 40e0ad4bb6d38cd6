# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Generate a small data set of toy streets, to train and to test on within minutes.

    OUT/cityscapes/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png             streets in the Cityscapes layout
    OUT/cityscapes/gtFine/{train,val}/CITY/*_gtFine_{labelIds,instanceIds,labelTrainIds}.png
    OUT/coco/images/*.jpg, OUT/coco/annotations/instances.json                objects in COCO format
    OUT/road_anomaly/frames/NAME.jpg, frames/NAME.labels/labels_semantic.png, frame_list.json
    OUT/fishyscapes/{original,labels}/NAME.png
    OUT/toy_streets.json                                                      the arguments, written last

Image i of a part is a function of (seed, part, i) alone. The two test sets have seeds of their own, so that they are
the same whatever the seed; their styles and the kinds of their anomalies appear in no other part.
"""
import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import ProgressBar
from pycocotools import mask as coco_mask

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'projects'))

from toy_drawing import ANOMALY_ID, OBJECTS, draw_country, draw_lost_cargo, draw_objects, draw_street

from mgcda.labels import ANOMALY, CITYSCAPES_TRAIN_LABEL_IDS, IGNORE, NORMAL, label_id_to_train_id

VERSION = 1
RECORD = 'toy_streets.json'
CITIES = dict(train=('aldenburg', 'brennhafen', 'corvingen'), val=('dorneck', ))
#: Seeds of the test sets, fixed for good.
ROAD_ANOMALY_SEED = 21_001
FISHYSCAPES_SEED = 32_002
#: The value of anomalies in RoadAnomaly's label files.
ROAD_ANOMALY_VALUE = 2
MIN_OBJECT_AREA = 30
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]
_TRAIN, _VAL, _OBJECTS, _TEST = range(4)


def _generator(seed: int, part: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, part, index])


def _write(path: Path, image: np.ndarray, options: tuple[int, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, list(options)):
        raise OSError(f'could not write {path}')


def _label_ids(ids: np.ndarray) -> np.ndarray:
    """Label ids (H, W) uint8 of instance ids (H, W) uint16."""
    return np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)


def write_street(root: Path, split: str, index: int, seed: int, size: tuple[int, int]) -> None:
    """One training or validation scene, in the Cityscapes layout."""
    image, ids = draw_street(_generator(seed, _TRAIN if split == 'train' else _VAL, index), size)
    city = CITIES[split][index % len(CITIES[split])]
    name = f'{city}_{index:06d}_000019'
    labels = _label_ids(ids)
    _write(root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png', image)
    for kind, array in (('labelIds', labels), ('instanceIds', ids), ('labelTrainIds', label_id_to_train_id()[labels])):
        _write(root / 'gtFine' / split / city / f'{name}_gtFine_{kind}.png', array)


def write_road_anomaly(root: Path, index: int, size: tuple[int, int]) -> str:
    """One scene of the first test set, 16:9 as RoadAnomaly's; returns the name of the frame."""
    wide = (max(8, int(round(size[1] * 9 / 16 / 8)) * 8), size[1])
    image, ids = draw_country(_generator(ROAD_ANOMALY_SEED, _TEST, index), wide)
    name = f'country{index:02d}_toy'
    _write(root / 'frames' / f'{name}.jpg', image, JPEG)
    _write(root / 'frames' / f'{name}.labels' / 'labels_semantic.png',
           np.where(ids == ANOMALY_ID, ROAD_ANOMALY_VALUE, 0).astype(np.uint8))
    return f'{name}.jpg'


def write_fishyscapes(root: Path, index: int, size: tuple[int, int]) -> None:
    """One scene of the second test set; one in twelve has no anomaly."""
    image, ids = draw_lost_cargo(_generator(FISHYSCAPES_SEED, _TEST, index), size, empty=index % 12 == 5)
    label = np.where(ids == ANOMALY_ID, ANOMALY, IGNORE).astype(np.uint8)
    label[np.isin(_label_ids(ids), CITYSCAPES_TRAIN_LABEL_IDS)] = NORMAL
    name = f'{index:04d}_toy_street.png'
    _write(root / 'original' / name, image)
    _write(root / 'labels' / name, label)


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask, as COCO's flat lists of x, y."""
    double = np.kron(mask.astype(np.uint8), np.ones((2, 2), np.uint8))
    outlines, _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thinned = (cv2.approxPolyDP(outline, 1., True) for outline in outlines)
    return [((line.reshape(-1) + .5) / 2).round(2).tolist() for line in thinned if len(line) >= 3]


def _annotation(mask: np.ndarray, crowd: bool, polygons: bool) -> dict:
    """Outline, area and box of one object."""
    height, width = mask.shape
    outline = _polygons(mask) if polygons else []
    if outline:
        code = coco_mask.merge(coco_mask.frPyObjects(outline, height, width))
        segmentation = outline
    else:
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = dict(size=[height, width], counts=code['counts'].decode('ascii'))
    return dict(
        iscrowd=int(crowd),
        area=float(coco_mask.area(code)),
        bbox=coco_mask.toBbox(code).tolist(),
        segmentation=segmentation)


def write_object_image(root: Path, index: int, seed: int, size: tuple[int, int], content: dict[str,
                                                                                               list[dict]]) -> None:
    """One object image, and its entries in ``content``; the first one shows a crowd."""
    rng = _generator(seed, _OBJECTS, index)
    height, width = (int(side) for side in size[0] * rng.uniform((.85, 1.), (1.25, 1.6)))
    image, found = draw_objects(rng, (height, width), crowd=index == 0)
    name = f'{index + 1:012d}.jpg'
    _write(root / 'images' / name, image, JPEG)
    content['images'].append(dict(id=index + 1, file_name=name, height=height, width=width))
    for (category, _), crowd, mask in found:
        if mask.sum() < MIN_OBJECT_AREA:
            continue
        number = len(content['annotations']) + 1
        entry = _annotation(mask, crowd, polygons=not crowd and index % 2 == 0)
        content['annotations'].append(dict(id=number, image_id=index + 1, category_id=category, **entry))


def _categories() -> list[dict]:
    return [dict(id=number, name=name, supercategory='toy') for number, name in sorted(OBJECTS)]


def _dump(path: Path, content: dict | list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def _generate(root: Path, arguments: dict, progress: bool) -> None:
    size, seed = tuple(arguments['size']), arguments['seed']
    counts = {key: arguments[key] for key in ('num_train', 'num_val', 'num_objects', 'num_test')}
    objects = dict(
        info=dict(description='Toy objects'), licenses=[], images=[], annotations=[], categories=_categories())
    frames: list[str] = []
    jobs = [(write_street, root / 'cityscapes', split, index, seed, size) for split in ('train', 'val')
            for index in range(counts[f'num_{split}'])]
    jobs += [(write_object_image, root / 'coco', index, seed, size, objects) for index in range(counts['num_objects'])]
    jobs += [(write_road_anomaly, root / 'road_anomaly', index, size) for index in range(counts['num_test'])]
    jobs += [(write_fishyscapes, root / 'fishyscapes', index, size) for index in range(counts['num_test'])]
    bar = ProgressBar(len(jobs)) if progress else None
    for job, *args in jobs:
        name = job(*args)
        if name:
            frames.append(name)
        if bar is not None:
            bar.update()
    _dump(root / 'coco' / 'annotations' / 'instances.json', objects)
    _dump(root / 'road_anomaly' / 'frame_list.json', frames)
    _dump(root / RECORD, arguments)


def _check(arguments: dict) -> None:
    if len(arguments['size']) != 2:
        raise ValueError(f"size must be (height, width), got {arguments['size']}")
    for key, value in arguments.items():
        low = dict(seed=0, size=32).get(key, 1)
        values = value if key == 'size' else (value, )
        if any(not isinstance(number, (int, np.integer)) or isinstance(number, bool) for number in values):
            raise TypeError(f'{key} must be made of integers, got {value!r}')
        if any(number < low for number in values):
            raise ValueError(f'{key} must be at least {low}, got {value}')


def make_toy_streets(out_dir: str | os.PathLike,
                     seed: int = 0,
                     num_train: int = 160,
                     num_val: int = 20,
                     num_objects: int = 120,
                     num_test: int = 24,
                     size: tuple[int, int] = (128, 256),
                     progress: bool = True,
                     force: bool = False) -> bool:
    """Generate the toy data set under ``out_dir``; all of it appears at once, or nothing.

    Args:
        out_dir: Folder to make. It may exist if it is empty.
        seed: Seed of the training parts; the test sets have fixed seeds.
        num_train: Number of training scenes.
        num_val: Number of validation scenes.
        num_objects: Number of object images.
        num_test: Number of scenes in each of the two test sets.
        size: Height and width of the scenes in pixels.
        progress: Whether to show a progress bar.
        force: Replace toy streets that were made with other arguments.

    Returns:
        bool: Whether anything was made; False if the data set is there already, made with the same arguments.

    Raises:
        TypeError, ValueError: An argument is no integer, or too small.
        FileExistsError: ``out_dir`` holds something else, or other toy streets and ``force`` is not set.
    """
    out = Path(out_dir).absolute()
    arguments = dict(
        seed=seed, num_train=num_train, num_val=num_val, num_objects=num_objects, num_test=num_test, size=list(size))
    _check(arguments)
    arguments = dict(
        version=VERSION,
        **{
            key: [int(side) for side in value] if key == 'size' else int(value)
            for key, value in arguments.items()
        })
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        record = out / RECORD
        if not record.is_file():
            raise FileExistsError(f'{out} exists and holds no {RECORD}: it is not replaced, name another folder')
        if record.read_text(encoding='utf-8') == json.dumps(arguments, indent=1) + '\n':
            return False
        if not force:
            raise FileExistsError(f'{out} holds toy streets made with other arguments (see {record}): name another '
                                  'folder, or replace them with --force')
    scratch, old = (out.with_name(f'.{out.name}.{os.getpid()}.{kind}') for kind in ('tmp', 'old'))
    try:
        scratch.mkdir(parents=True)
        _generate(scratch, arguments, progress)
        if out.is_dir() and any(out.iterdir()):
            os.replace(out, old)
        os.replace(scratch, out)
    except BaseException:
        if old.is_dir() and not out.exists():
            os.replace(old, out)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return True


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Generate a small data set of toy streets')
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--seed', type=int, default=0, help='seed of the training parts (default: %(default)s)')
    parser.add_argument('--num-train', type=int, default=160, help='training scenes (default: %(default)s)')
    parser.add_argument('--num-val', type=int, default=20, help='validation scenes (default: %(default)s)')
    parser.add_argument('--num-objects', type=int, default=120, help='object images (default: %(default)s)')
    parser.add_argument('--num-test', type=int, default=24, help='scenes of each test set (default: %(default)s)')
    parser.add_argument('--height', type=int, default=128, help='height of the scenes (default: %(default)s)')
    parser.add_argument('--width', type=int, default=256, help='width of the scenes (default: %(default)s)')
    parser.add_argument('--force', action='store_true', help='replace toy streets made with other arguments')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    made = make_toy_streets(
        args.out,
        args.seed,
        args.num_train,
        args.num_val,
        args.num_objects,
        args.num_test, (args.height, args.width),
        force=args.force)
    print(f'\nToy streets are in {args.out}' if made else f'{args.out} is complete already: nothing to do')


if __name__ == '__main__':
    main()
