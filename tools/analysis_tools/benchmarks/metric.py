# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Time and peak memory of the pixel metric, streaming and exact, against scikit-learn on the same made-up frames.

    python tools/analysis_tools/benchmark.py metric
    python tools/analysis_tools/benchmark.py metric --frames 5 --model configs/mgcda_cityscapes.py

Each runs in a process of its own. Ours are fed frame by frame as they are made, scikit-learn (average precision and ROC
curve) gets all valid pixels at once. Counted are the seconds inside the metric and the memory above its input. With a
model, the time of AnomalyMetric for a frame is also compared with that of the model's forward pass (random weights,
batch of 1).
"""
import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
from mmengine.config import DictAction
from sklearn.metrics import auc, average_precision_score, roc_curve

from mgcda.evaluation import AnomalyMetric, PixelCurve

from .common import in_own_process, memory, random_model, verdict, wait, write_json

METHODS = ('streaming', 'exact', 'scikit-learn')
VALUES = ('AP', 'FPR95', 'AUROC')
#: Streaming: times faster than scikit-learn, megabytes. Exact: times faster, bytes a pixel. Share of a forward pass.
TARGETS = dict(streaming_times=25, streaming_mb=500, exact_times=1, exact_bytes=6, share=1 / 20)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('--frames', type=int, default=100, help='number of frames')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), default=(1024, 2048), help='size of a frame')
    parser.add_argument('--seed', type=int, default=0, help='seed of the frames')
    parser.add_argument('--device', default='cpu', help='where the scores are: of streaming, and of the model')
    parser.add_argument('--cpu-time', action='store_true', help='processor time, for a CPU that others use as well')
    parser.add_argument('--model', metavar='CONFIG', help='also time AnomalyMetric against this model')
    parser.add_argument('--rounds', type=int, default=3, help='timed forward passes of the model')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    parser.add_argument('--json', help='file to write the figures to')


def make_frame(seed: int, index: int, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 (H, W), smooth with noise, and labels uint8 (H, W): a few percent anomalies, some void regions."""
    generator = np.random.default_rng((seed, index))
    height, width = size
    coarse = generator.standard_normal((3, height // 64 + 2, width // 64 + 2), np.float32)
    labels = np.zeros((height, width), np.uint8)
    labels[cv2.resize(coarse[1], (width, height)) > 1.3] = 1
    labels[cv2.resize(coarse[2], (width, height)) > 1.6] = 255
    labels[-height // 16:] = 255
    scores = cv2.resize(coarse[0], (width, height), interpolation=cv2.INTER_CUBIC)
    scores += generator.standard_normal((height, width), np.float32)
    scores += 3 * (labels == 1)
    return scores, labels


def make_frames(num_frames: int, size: Sequence[int], seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same frames whenever they are made."""
    for index in range(num_frames):
        yield make_frame(seed, index, size)


def measure_curve(mode: str, num_frames: int, size: Sequence[int], seed: int, device: torch.device,
                  clock: Callable[[], float]) -> dict:
    """Feed frames to a PixelCurve."""
    curve = PixelCurve(mode)
    make_frame(seed, 0, size)
    before, seconds = memory('VmRSS'), 0.0
    for frame in make_frames(num_frames, size, seed):
        scores, labels = (torch.from_numpy(array).to(device) for array in frame)
        wait(device)
        start = clock()
        curve.update(scores, labels)
        wait(device)
        seconds += clock() - start
    start = clock()
    values = curve.compute()
    seconds += clock() - start
    figures = dict(
        seconds=seconds,
        mb=memory('VmHWM') - before,
        values=values,
        num_pixels=curve.num_normal + curve.num_anomaly,
        num_anomaly=curve.num_anomaly)
    if device.type == 'cuda':
        figures['device_mb'] = torch.cuda.max_memory_allocated(device) / 1e6
    return figures


def measure_scikit_learn(num_frames: int, size: Sequence[int], seed: int, clock: Callable[[], float]) -> dict:
    """Give all valid pixels to scikit-learn."""
    scores = np.empty(num_frames * size[0] * size[1], np.float32)
    anomaly = np.empty(scores.size, bool)
    end = 0
    for frame_scores, labels in make_frames(num_frames, size, seed):
        valid = labels != 255
        start, end = end, end + int(np.count_nonzero(valid))
        scores[start:end], anomaly[start:end] = frame_scores[valid], labels[valid]
    scores, anomaly = scores[:end], anomaly[:end]
    before, start = memory('VmRSS'), clock()
    average_precision = average_precision_score(anomaly, scores)
    fpr, tpr, _ = roc_curve(anomaly, scores)
    values = dict(AP=100 * average_precision, FPR95=100 * fpr[np.argmax(tpr >= 0.95)], AUROC=100 * auc(fpr, tpr))
    seconds = clock() - start
    return dict(
        seconds=seconds,
        mb=memory('VmHWM') - before,
        values={key: float(values[key])
                for key in values},
        num_pixels=end,
        num_anomaly=int(anomaly.sum()))


def measure(method: str, num_frames: int, size: Sequence[int], seed: int, device: str, clock: Callable[[],
                                                                                                       float]) -> dict:
    """Seconds, megabytes and values of one of :data:`METHODS`."""
    cv2.setNumThreads(1)
    if method == 'scikit-learn':
        return measure_scikit_learn(num_frames, size, seed, clock)
    device = torch.device(device if method == 'streaming' else 'cpu')
    return measure_curve(method, num_frames, size, seed, device, clock)


@torch.no_grad()
def measure_model(path: str, cfg_options: dict, size: Sequence[int], rounds: int, seed: int, device: str,
                  clock: Callable[[], float]) -> dict:
    """Milliseconds of a model's forward pass, and of AnomalyMetric for a frame of the same size, by medians."""
    device = torch.device(device)
    model = random_model(path, cfg_options, device)
    channels = 10 if type(model).__name__ == 'DissimilaritySegmentor' else 3
    inputs = torch.rand(1, channels, *size, device=device)
    metric = AnomalyMetric()
    seconds: dict[str, list] = dict(model=[], metric=[])

    def count(name: str, function: Callable[[], None]) -> None:
        wait(device)
        start = clock()
        function()
        wait(device)
        seconds[name].append(clock() - start)

    model(inputs[..., :64, :128])
    for index in range(max(rounds, 10) + 1):
        scores, labels = (torch.from_numpy(array)[None].to(device) for array in make_frame(seed, index, size))
        sample = dict(
            anomaly_scores=dict(data=scores),
            gt_sem_seg=dict(data=labels),
            img_path=f'{index}.png',
            dataset_name='made_up')
        count('metric', lambda: metric.process(None, [sample]))
        if index < rounds:
            count('model', lambda: model(inputs))
    # The first frame of a metric also pays for its memory.
    model_ms, metric_ms = (1000 * statistics.median(times) for times in (seconds['model'], seconds['metric'][1:]))
    return dict(
        config=path,
        model_ms=model_ms,
        metric_ms=metric_ms,
        first_frame_ms=1000 * seconds['metric'][0],
        share=metric_ms / model_ms)


def report(figures: dict) -> None:
    """Print the figures beside the targets."""
    streaming, exact, reference = (figures[method] for method in METHODS)
    print(f'{figures["frames"]} frames of {figures["size"][0]} x {figures["size"][1]}: '
          f'{exact["num_pixels"] / 1e6:.1f} M valid pixels, {100 * exact["num_anomaly"] / exact["num_pixels"]:.1f} % '
          f'anomalies; {figures["device"]}, {figures["threads"]} thread(s), {figures["clock"]}')
    print(f'{"":<14}{"s":>9}{"MB":>9}' + ''.join(f'{key:>12}' for key in VALUES))
    for method in METHODS:
        row = figures[method]
        print(f'{method:<14}{row["seconds"]:>9.2f}{row["mb"]:>9.0f}' + ''.join(f'{row["values"][key]:>12.6f}'
                                                                               for key in VALUES))
    for method, row in (('streaming', streaming), ('exact', exact)):
        print(f'{method} is {row["times"]:.1f} times as fast as scikit-learn ' +
              verdict(row['times'], TARGETS[f'{method}_times'], at_least=True))
    print(f'streaming: {streaming["mb"]:.0f} MB {verdict(streaming["mb"], TARGETS["streaming_mb"])}')
    print(f'exact: {exact["bytes"]:.2f} bytes a valid pixel {verdict(exact["bytes"], TARGETS["exact_bytes"])}')
    for name in ('streaming - exact', 'exact - scikit-learn', 'width of the bounds'):
        print(f'{name}, in points: ' + ', '.join(f'{key} {figures[name][key]:.1e}' for key in VALUES))
    if 'model' in figures:
        row = figures['model']
        print(f'AnomalyMetric: {row["metric_ms"]:.1f} ms a frame, forward pass of {row["config"]}: '
              f'{row["model_ms"]:.0f} ms, share {row["share"]:.4f} {verdict(row["share"], TARGETS["share"])}')


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Measure and report; the parser tells what is wrong with the options."""
    for name in ('frames', 'rounds'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    if args.cpu_time and torch.device(args.device).type != 'cpu':
        parser.error('--cpu-time is for a CPU')
    clock = time.process_time if args.cpu_time else time.perf_counter
    figures = dict(
        frames=args.frames,
        size=list(args.size),
        device=args.device,
        threads=torch.get_num_threads(),
        clock=clock.__name__)
    for method in METHODS:
        figures[method] = in_own_process(measure, method, args.frames, args.size, args.seed, args.device, clock)
    streaming, exact, reference = (figures[method] for method in METHODS)
    for row in (streaming, exact):
        row['times'] = reference['seconds'] / row['seconds']
    exact['bytes'] = 1e6 * exact['mb'] / exact['num_pixels']
    for first, second in (('streaming', 'exact'), ('exact', 'scikit-learn')):
        figures[f'{first} - {second}'] = {
            key: figures[first]['values'][key] - figures[second]['values'][key]
            for key in VALUES
        }
    figures['width of the bounds'] = {
        key: streaming['values'][f'{key}_upper'] - streaming['values'][f'{key}_lower']
        for key in VALUES
    }
    if args.model:
        figures['model'] = in_own_process(measure_model, args.model, args.cfg_options, args.size, args.rounds,
                                          args.seed, args.device, clock)
    report(figures)
    write_json(args.json, figures)
