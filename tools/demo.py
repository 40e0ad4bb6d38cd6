# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The whole way on toy streets: data, frozen networks, maps, training, testing, a table and pictures.

    python tools/demo.py                       # one training seed, some minutes on two CPU cores
    python tools/demo.py --seeds 0 1 2 3 4     # mean and spread over five

Every step is one call of a tool that works on real data alike; the commands are printed. A step that is done is not done
again: an interrupted demo goes on where it stopped, ``--fresh`` starts over.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import cv2
import matplotlib
import numpy as np
import torch
from mmseg.utils import get_palette

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('data/toy')
WORK = Path('work_dirs/toy')
METHODS = (('entropy', 'softmax entropy of the frozen segmenter'), ('baseline', 'the network without MDAT and CACL'),
           ('mgcda', 'MGCDA'))
BENCHMARKS = ('ToyRoadAnomaly', 'ToyFishyscapes')
METRICS = ('AP', 'FPR95', 'AUROC')
SHOWN = (('ToyRoadAnomaly', 'road_anomaly/frames', (2, 9, 17)), ('ToyFishyscapes', 'fishyscapes/original', (1, 8, 14)))
#: Lines of a tool's output that tell how far it is.
PROGRESS = ('(train)', '(test)', '(val)', ' written to ', ' are in ')

Job = Tuple[str, Sequence[str], Path]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='MGCDA on toy streets, from data to pictures')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='training seeds of the compared networks')
    parser.add_argument('--fresh', action='store_true', help='forget what an earlier demo has done')
    return parser.parse_args()


def run(jobs: Sequence[Job]) -> None:
    """Run jobs (name, command, file that exists when it is done) side by side, with progress."""
    todo = [job for job in jobs if not job[2].exists()]
    for name, _, product in jobs:
        if product.exists():
            print(f'[{name}] done before: {product}', flush=True)
    if not todo:
        return
    threads = max((os.cpu_count() or 1) // len(todo), 1)
    with ThreadPoolExecutor(len(todo)) as pool:
        for future in [pool.submit(run_one, *job, threads) for job in todo]:
            future.result()


def run_one(name: str, command: Sequence[str], product: Path, threads: int) -> None:
    """Run one tool, print its progress, keep all of its output in a log."""
    print(f'[{name}] python {" ".join(command)}', flush=True)
    log = WORK / 'logs' / f'{name.replace(" ", "_")}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), PYTHONWARNINGS='ignore', PYTHONUNBUFFERED='1')
    start = time.time()
    with open(log, 'w') as file, subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True) as process:
        for line in process.stdout:
            file.write(line)
            if any(word in line for word in PROGRESS):
                print(f'[{name}] {line.rsplit("INFO - ", 1)[-1].strip()[:150]}', flush=True)
    if process.returncode != 0:
        tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
        raise SystemExit(f'[{name}] failed (see {log}):\n{tail}')
    product.parent.mkdir(parents=True, exist_ok=True)
    product.touch()
    print(f'[{name}] {time.time() - start:.0f} s', flush=True)


def train(name: str, config: str, folder: str, *options: str) -> Job:
    """A training of the stock kind; it resumes where it was interrupted."""
    command = ['tools/train.py', f'configs/toy/{config}.py', '--work-dir', str(WORK / folder), '--resume']
    return name, command + (['--cfg-options', *options] if options else []), WORK / folder / 'done'


def test(name: str, config: str, folder: str, checkpoint: Path) -> Job:
    """A test of the stock kind, which also writes the score maps."""
    out = WORK / folder / 'test'
    command = ['tools/test.py', f'configs/toy/{config}.py', str(checkpoint), '--work-dir', str(out), '--out', str(out)]
    return name, command, out / 'done'


def make_maps(name: str, images: Path, *options: str) -> Job:
    """The maps of the frozen networks for a folder of images."""
    out = DATA / 'maps' / name
    command = ['tools/dataset_converters/make_maps.py', 'configs/toy/baseline.py', str(DATA / images), str(out)]
    return f'maps of {name}', command + list(options), out / 'done'


def read_results(folder: str) -> Dict[str, float]:
    """Metrics that test.py logged last."""
    files = sorted((WORK / folder / 'test').glob('*/*.json'))
    return json.loads(files[-1].read_text().splitlines()[-1])


def print_table(results: Dict[str, List[Dict[str, float]]]) -> None:
    """Print the metrics in percent, with the standard deviation over the seeds where there are several."""
    width = max(len(label) for _, label in METHODS)
    print(f'\n{"":{width}}  ' + '  '.join(f'{name:^32}' for name in BENCHMARKS))
    print(f'{"":{width}}  ' + '  '.join(f'{metric:>9} ' for _ in BENCHMARKS for metric in METRICS))
    for method, label in METHODS:
        cells = []
        for benchmark in BENCHMARKS:
            for metric in METRICS:
                values = [result[f'{benchmark}/{metric}'] for result in results[method]]
                spread = f'±{np.std(values, ddof=1):.1f}' if len(values) > 1 else ''
                cells.append(f'{np.mean(values):.1f}{spread:5}')
        print(f'{label:{width}}  ' + '  '.join(f'{cell:>10}' for cell in cells))


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
        pictures = (cv2.imread(str(image_file))[..., ::-1],
                    cv2.imread(str(maps / 'synthesis' / f'{image_file.stem}.png'))[..., ::-1], palette[semantic], colours)
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
    start = time.time()
    if args.fresh:
        for folder in (DATA, WORK):
            shutil.rmtree(folder, ignore_errors=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'{os.cpu_count()} CPU cores'
    print(f'Toy streets in {DATA}, results in {WORK}; running on {device}', flush=True)
    run([('toy streets', ['tools/dataset_converters/toy_streets.py', str(DATA)], DATA / 'toy_streets.json')])
    run([train('segmenter', 'segmenter', 'segmenter'), train('generator', 'generator', 'generator'),
         ('composites', ['tools/dataset_converters/make_anomaly_mix.py', 'configs/_base_/datasets/toy_anomaly_mix.py',
                         str(DATA / 'anomaly_mix')], DATA / 'anomaly_mix' / 'done')])
    run([make_maps('cityscapes', Path('cityscapes/leftImg8bit/train')),
         make_maps('anomaly_mix', Path('anomaly_mix/leftImg8bit/train'))])
    networks = [name for name, _ in METHODS if name != 'entropy']
    for seed in args.seeds:
        run([train(f'{name} seed {seed}', name, f'{name}/seed{seed}', f'randomness.seed={seed}') for name in networks])
    last = {seed: {name: WORK / f'{name}/seed{seed}/last_checkpoint' for name in networks} for seed in args.seeds}
    run([test('entropy', 'entropy', 'entropy', WORK / 'segmenter' / 'iter_250.pth'),
         make_maps('road_anomaly', Path('road_anomaly/frames'), '--suffixes', '.jpg')])
    run([make_maps('fishyscapes', Path('fishyscapes/original'))])
    for seed in args.seeds:
        run([test(f'{name} test {seed}', name, f'{name}/seed{seed}', Path(last[seed][name].read_text().strip()))
             for name in networks])
    results = {name: [read_results(f'{name}/seed{seed}') for seed in args.seeds] for name in networks}
    results['entropy'] = [read_results('entropy')]
    sheet = WORK / 'sheet.png'
    draw_sheet(f'mgcda/seed{args.seeds[0]}', sheet)
    print_table(results)
    print(f'\nPictures: {sheet.resolve()}\n{time.time() - start:.0f} s in all', flush=True)


if __name__ == '__main__':
    main()
