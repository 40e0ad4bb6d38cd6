# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What a container for Fishyscapes runs: score and segment the images of a folder.

    python tools/fishyscapes_container/run.py --model work_dirs/container/model --input IMAGES --output OUT

Reads ``INPUT/DDDD_*.png``, writes ``OUTPUT/DDDD_anomaly.npy`` (float32) and ``OUTPUT/DDDD_segmentation.npy`` (uint8,
Cityscapes train ids), (H, W) of the image, and reads all of them back. ``tools/export_submission.py fishyscapes`` puts
this file and the model into the folder that the container is built from.
"""
import argparse
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'projects'))  # in a checkout; the container has it installed

import mgcda  # noqa: F401
from mgcda.apis import AnomalyInferencer, AnomalyResult
from mgcda.evaluation.submissions.fishyscapes import ANOMALY_ENDING, SEGMENTATION_ENDING, check_fishyscapes, find_inputs
from mgcda.labels import NUM_CITYSCAPES_CLASSES
from mgcda.utils.files import write_file, write_png


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Score and segment the images of a folder for Fishyscapes')
    parser.add_argument('--model', default=os.path.join(HERE, 'model'), help='folder of config.py and checkpoint.pth')
    parser.add_argument('--input', default='/input', help='folder of DDDD_*.png')
    parser.add_argument('--output', default='/output', help='folder to write to')
    parser.add_argument('--device', default=None, help='default: the GPU, or the CPU where there is none')
    parser.add_argument(
        '--self-test', action='store_true', help='only load the model, and try it on one image of noise')
    return parser.parse_args(argv)


def run(inferencer: AnomalyInferencer, path: Path) -> AnomalyResult:
    """Scores and segmentation of an image.

    Raises:
        ValueError: The model gives no segmentation, or scores that are NaN.
    """
    if inferencer.num_classes != NUM_CITYSCAPES_CLASSES:
        raise ValueError('the model holds no segmenter of the 19 classes of Cityscapes, whose prediction Fishyscapes '
                         'asks for')
    return inferencer(path)['predictions'][0]


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_file(path, buffer.getvalue())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    args.input, args.output = os.path.abspath(args.input), os.path.abspath(args.output)
    os.chdir(args.model)  # the config names files relative to it
    inferencer = AnomalyInferencer('config.py', 'checkpoint.pth', args.device)
    if args.self_test:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'noise.png')
            write_png(path, np.random.default_rng(0).integers(0, 256, (128, 256, 3), np.uint8))
            run(inferencer, path)
        print('the model is complete')
        return
    images = find_inputs(args.input)
    for index, (number, path) in enumerate(images.items(), start=1):
        result = run(inferencer, path)
        write_array(Path(args.output, number + ANOMALY_ENDING), result.anomaly_scores)
        write_array(Path(args.output, number + SEGMENTATION_ENDING), result.segmentation)
        print(f'{index} of {len(images)}: {path.name}', flush=True)
    check_fishyscapes(args.input, args.output)


if __name__ == '__main__':
    main()
