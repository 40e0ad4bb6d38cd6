# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The whole way on toy streets: data, frozen networks, maps, training, testing, a table and pictures.

    python demo/demo.py                       # one training seed, some minutes on two CPU cores
    python demo/demo.py --seeds 0 1 2 3 4     # mean and spread over five

It is the study ``configs/studies/toy.py`` of ``tools/run_study.py``, and a sheet of pictures. Finished runs
are skipped and interrupted ones resume; ``--fresh`` starts over and leaves other trainings alone.
"""
import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
from mmseg.utils import get_palette

matplotlib.use('Agg')
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'tools'), str(ROOT / 'projects')]
import run_study

from mgcda.studies import Study, read_study

DATA = Path('data/toy')
WORK = Path('work_dirs/toy')
STUDY = 'configs/studies/toy.py'
SHEET = 'sheet.png'
SHOWN = (('ToyRoadAnomaly', 'road_anomaly/frames', (2, 9, 17)), ('ToyFishyscapes', 'fishyscapes/original', (1, 8, 14)))


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='MGCDA on toy streets, from data to pictures')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='training seeds of the compared networks')
    parser.add_argument('--fresh', action='store_true', help='forget what an earlier demo has done')
    return parser.parse_args()


def forget(study: Study, data: Path) -> None:
    """Remove what a demo made of its data: runs of all seeds, table, pictures, maps and composites."""
    folders = {job.folder.parent if job.folder.name.startswith('seed') else job.folder for job in study.jobs}
    for folder in (*folders, data / 'maps', data / 'anomaly_mix'):
        if folder.exists():
            shutil.rmtree(folder)
    for name in (f'{study.name}.md', f'{study.name}.csv', SHEET):
        (study.work_dir / name).unlink(missing_ok=True)


def draw_sheet(folder: str, path: Path) -> None:
    """Draw image, resynthesis, semantic map, label and anomaly heat map of a few test images."""
    titles = ('image', 'resynthesis', 'semantic map', 'label', 'MGCDA anomaly score')
    rows = [(name, images, index) for name, images, indices in SHOWN for index in indices]
    figure, axes = plt.subplots(len(rows), len(titles), figsize=(15, 1.75 * len(rows)), squeeze=False)
    palette = np.array(get_palette('cityscapes') + [[0, 0, 0]] * 237, np.uint8)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=11)
    for row, (benchmark, images, index) in zip(axes, rows):
        image_file = sorted(f for f in (DATA / images).iterdir() if f.suffix in ('.jpg', '.png'))[index]
        maps = DATA / 'maps' / images.split('/')[0]
        semantic = cv2.imread(str(maps / 'semantic' / f'{image_file.stem}.png'), cv2.IMREAD_UNCHANGED)
        label_file = DATA / 'fishyscapes/labels' / f'{image_file.stem}.png'
        if benchmark == 'ToyRoadAnomaly':
            label_file = image_file.with_suffix('.labels') / 'labels_semantic.png'
        label = cv2.imread(str(label_file), cv2.IMREAD_UNCHANGED)
        colours = np.full((*label.shape, 3), 40, np.uint8)
        colours[label == 255] = 110
        colours[(label == 1) | (label == 2)] = (230, 60, 30)
        scores = np.load(WORK / folder / 'test' / benchmark / f'{image_file.stem}.npy').squeeze()
        synthesis = cv2.imread(str(maps / 'synthesis' / f'{image_file.stem}.png'))
        pictures = (cv2.imread(str(image_file))[..., ::-1], synthesis[..., ::-1], palette[semantic], colours)
        for axis, picture in zip(row, pictures):
            axis.imshow(picture)
        row[-1].imshow(1 / (1 + np.exp(-scores.astype(np.float32))), cmap='inferno', vmin=0, vmax=1)
        row[0].set_ylabel(benchmark, fontsize=9)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.tight_layout(pad=0.4)
    temporary = path.with_name(f'tmp_{path.name}')
    figure.savefig(temporary, dpi=80)
    plt.close(figure)
    os.replace(temporary, path)


def main() -> None:
    """Run the command line."""
    args = parse_args()
    os.chdir(ROOT)
    if args.fresh:
        # Complete streets of the same arguments stay; others are replaced.
        subprocess.run([sys.executable, 'demo/toy_streets.py', str(DATA), '--force'], check=True)
        forget(read_study(STUDY, ROOT), DATA)
    without_gpu = [] if torch.cuda.is_available() else ['--jobs', '2']
    run_study.main([STUDY, '--seeds', *map(str, args.seeds), *without_gpu])
    sheet = WORK / SHEET
    draw_sheet(f'mgcda/seed{args.seeds[0]}', sheet)
    print(f'Pictures: {sheet.resolve()}', flush=True)


if __name__ == '__main__':
    main()
