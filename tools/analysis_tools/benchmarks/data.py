# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Time reading AnomalyMix samples against reading the same images without pasting, on one core.

    python tools/analysis_tools/benchmark.py data configs/_base_/datasets/anomaly_mix_paste.py
    python tools/analysis_tools/benchmark.py data --size 1024 2048

Without a config, images (PNG), labels and COCO objects (JPEG) of the usual sizes are made in a temporary folder, and
crops are not cached. Both runs interleave, so that they see the same load.
"""
import argparse
import json
import os
import tempfile
import time

import cv2
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from mmseg.registry import DATASETS

from mgcda.datasets import PasteObjects, SampleKey

from .common import write_json

TARGET = 0.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('config', nargs='?', help='config with an AnomalyMixDataset; default: made-up files')
    parser.add_argument('--size', type=int, nargs=2, default=(1024, 2048), help='height and width of made-up images')
    parser.add_argument('--samples', type=int, default=100, help='samples that are timed')
    parser.add_argument('--json', help='file to write the figures to')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')


def texture(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture that compresses about as photographs do: smooth shades with fine grain."""
    coarse = generator.integers(0, 256, (height // 32 + 1, width // 32 + 1, 3), np.uint8)
    shades = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(shades + generator.integers(-4, 5, shades.shape), 0, 255).astype(np.uint8)


def write_files(root: str, height: int, width: int, num_images: int = 8, num_objects: int = 60) -> dict:
    """Made-up files in the layouts of Cityscapes and COCO; returns the data set's config."""
    generator = np.random.default_rng(0)
    for folder in ('leftImg8bit/train/a', 'gtFine/train/a', 'coco'):
        os.makedirs(os.path.join(root, folder))
    for i in range(num_images):
        cv2.imwrite(f'{root}/leftImg8bit/train/a/{i}_leftImg8bit.png', texture(generator, height, width))
        label = cv2.resize(
            generator.choice([4, 7, 11, 21, 23, 26], (24, 48)).astype(np.uint8), (width, height),
            interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(f'{root}/gtFine/train/a/{i}_gtFine_labelIds.png', label)
    images, annotations = [], []
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for i in range(num_objects):
        cv2.imwrite(f'{root}/coco/{i}.jpg', texture(generator, 480, 640))
        radii = generator.uniform(60, 200) * generator.uniform(0.7, 1, 40)
        points = np.stack([320 + radii * np.cos(angles), 240 + radii * np.sin(angles)], 1)
        low, high = points.min(0), points.max(0)
        images.append(dict(id=i, file_name=f'{i}.jpg', height=480, width=640))
        annotations.append(
            dict(
                id=i,
                image_id=i,
                category_id=1,
                iscrowd=0,
                area=float(np.prod(high - low)) * 0.6,
                bbox=[*low.tolist(), *(high - low).tolist()],
                segmentation=[points.flatten().tolist()]))
    with open(f'{root}/instances.json', 'w', encoding='utf-8') as file:
        json.dump(dict(images=images, annotations=annotations, categories=[dict(id=1, name='cow')]), file)
    return dict(
        type='AnomalyMixDataset',
        data_root=root,
        objects=dict(data_root=root, ann_file='instances.json', img_path='coco', cache_mb=0),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadAnomalyAnnotations'),
            dict(type='PasteObjects'),
            dict(type='ResizeDissimilarityInputs', scale=(512, 256)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDissimilarityInputs')
        ])


def find_config(node) -> dict:
    """The AnomalyMixDataset inside a data set config."""
    if isinstance(node, dict) and node.get('type') == 'AnomalyMixDataset':
        return node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return next(filter(None, map(find_config, children)), None)


def measure(config: dict, num_samples: int) -> dict:
    """Samples a second with and without pasting, alternating."""
    mixed = DATASETS.build(config)
    plain_config = dict(config, type='VoidClassDataset', anomaly_ids=())
    plain_config.pop('objects')
    plain_config['pipeline'] = [step for step in config['pipeline'] if step['type'] != 'PasteObjects']
    plain = DATASETS.build(plain_config)
    assert any(isinstance(step, PasteObjects) for step in mixed.pipeline.transforms)
    seconds: list[list[float]] = [[], []]
    bar = ProgressBar(num_samples)
    for i in range(-2, num_samples):
        key = SampleKey(i % len(mixed), 0, abs(i))
        for times, dataset in zip(seconds, (mixed, plain)):
            start = time.perf_counter()
            dataset[key]
            times.append(time.perf_counter() - start)
        if i >= 0:
            bar.update()
    mix_rate, plain_rate = (num_samples / sum(times[2:]) for times in seconds)
    return dict(
        mix_per_second=mix_rate,
        plain_per_second=plain_rate,
        ratio=mix_rate / plain_rate,
        median_ratio=float(np.median(seconds[1][2:]) / np.median(seconds[0][2:])),
        objects=len(mixed.objects),
        images=len(mixed),
        samples=num_samples)


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Measure and report; the parser tells what is wrong with the options."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    init_default_scope('mmseg')
    with tempfile.TemporaryDirectory() as folder:
        if args.config:
            cfg = Config.fromfile(args.config)
            if args.cfg_options:
                cfg.merge_from_dict(args.cfg_options)
            config = find_config(cfg.get('train_dataloader', {}))
            if config is None:
                raise ValueError(f'{args.config} has no AnomalyMixDataset in its train_dataloader')
        else:
            config = write_files(folder, *args.size)
        figures = measure(config, args.samples)
    print(f'\nAnomalyMix: {figures["mix_per_second"]:.1f} samples/s and core; without pasting: '
          f'{figures["plain_per_second"]:.1f}; ratio {figures["ratio"]:.2f} (at least {TARGET} wanted)')
    write_json(args.json, figures)
