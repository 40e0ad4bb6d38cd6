# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Time and memory of scores for a frame, against the forward pass of a segmenter.

    python tools/analysis_tools/benchmark.py scores CONFIG --cfg-options model.backbone.depth=50
    python tools/analysis_tools/benchmark.py scores CONFIG --device cuda --dtype float16

Scores are computed of made-up logits (1, 19, H, W) at the size of the image, or of made-up features (1, D, H/4, W/4)
and then brought to that size, as AnomalySegmentor does; what must be fitted is fitted on others like them. Every score
runs in a process of its own, so that its peak memory is its own. CONFIG is that of a segmenter, which gets random
weights.
"""
import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import DictAction
from torch import Tensor, nn

from mgcda.scores import FittedScore, Score, build_score

from .common import forget_peak_memory, in_own_process, memory, random_model, verdict, wait, write_json

CLASSIFIER = 'decode_head.conv_seg'
FLOW = dict(type='FlowNLL', layers=[f'{CLASSIFIER}:input'], sample_size=2000, num_iters=2)
#: The cheap family, which the targets are for.
CHEAP = {
    'msp': 'msp',
    'entropy': 'entropy',
    'margin': 'margin',
    'max_logit': 'max_logit',
    'energy': 'energy',
    'energy, T=2': dict(type='energy', temperature=2.0),
    'SML': dict(type='SML'),
    'ASH': dict(type='ASH'),
    'ReAct': dict(type='ReAct')
}
SCORES: dict[str, Any] = {
    **CHEAP, 'Mahalanobis': dict(type='Mahalanobis', layer=f'{CLASSIFIER}:input'),
    'kNN': dict(type='KNN', layer=f'{CLASSIFIER}:input'),
    'NLL': FLOW
}
NUM_CLASSES = 19
STRIDE = 4
#: Share of the forward pass, and copies of the logits, at most.
TARGETS = dict(share=1 / 10, copies=2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument('config', help='config of the segmenter')
    parser.add_argument('--scores', nargs='+', choices=list(SCORES), default=list(SCORES), help='default: all')
    parser.add_argument(
        '--channels', type=int, default=512, help='channels of the features, D; default: those of DeepLabV3+')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), default=(1024, 2048), help='size of a frame')
    parser.add_argument('--rounds', type=int, default=5, help='runs that are timed')
    parser.add_argument('--device', default='cpu', help='where everything is')
    parser.add_argument('--dtype', choices=('float32', 'float16', 'bfloat16'), default='float32', help='of the logits')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    parser.add_argument('--json', help='file to write the figures to')


def milliseconds(function: Callable[[], None], rounds: int, device: torch.device) -> float:
    """Median of several runs, after one that is not counted."""
    times: list[float] = []
    for _ in range(rounds + 1):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])


class Network(nn.Module):
    """As much of a segmentor as scores look at."""
    num_classes = NUM_CLASSES

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.decode_head = nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(channels, NUM_CLASSES, 1)


def prepared(name: str, channels: int, device: torch.device) -> Score:
    """The score of a name, for features of so many channels, fitted where that is to be."""
    score = build_score(SCORES[name])
    if isinstance(score, FittedScore):
        key, number = ('seg_logits', NUM_CLASSES) if 'seg_logits' in score.needs else ('features', channels)
        values = torch.randn(1, number, 160, 160, device=device)
        labels = torch.randint(NUM_CLASSES, (1, 160, 160), device=device)
        score.update({key: values if key == 'seg_logits' else (values, )}, labels)
        score.finish()
    score.prepare(Network(channels).to(device))
    return score


def frame_outputs(score: Score, size: Sequence[int], channels: int, device: torch.device, dtype: str) -> dict[str, Any]:
    """Made-up outputs for a frame."""
    height, width = size
    if 'seg_logits' in score.needs:
        shape = (1, NUM_CLASSES, height, width)
    else:
        shape = (1, channels, height // STRIDE, width // STRIDE)
    # In place: what is freed before would hide what the score takes.
    values = torch.empty(shape, device=device, dtype=getattr(torch, dtype)).normal_(std=3)
    return dict(seg_logits=values) if 'seg_logits' in score.needs else dict(features=(values, ))


def score_frame(score: Score, outputs: dict[str, Any], size: Sequence[int]) -> Tensor:
    """Scores (1, H, W), as AnomalySegmentor makes them."""
    scores = score(outputs)
    if 'seg_logits' in score.needs:
        return scores
    maps = scores if scores.dim() == 4 else scores[:, None]
    return score.combine(F.interpolate(maps, size=tuple(size), mode='bilinear', align_corners=False))


@torch.no_grad()
def measure_score(name: str, size: Sequence[int], channels: int, rounds: int, device: str, dtype: str) -> dict:
    """Milliseconds of a score, and what it takes in memory, in megabytes and in copies of the logits in float32."""
    device = torch.device(device)
    score = prepared(name, channels, device)
    score_frame(score, frame_outputs(score, (32, 32), channels, device, dtype), (32, 32))
    outputs = frame_outputs(score, size, channels, device, dtype)
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak_memory()
    before = torch.cuda.memory_allocated(device) / 1e6 if device.type == 'cuda' else memory('VmRSS')
    score_frame(score, outputs, size)
    wait(device)
    after = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == 'cuda' else memory('VmHWM')
    logits_mb = NUM_CLASSES * size[0] * size[1] * 4 / 1e6
    return dict(
        ms=milliseconds(lambda: score_frame(score, outputs, size), rounds, device),
        mb=after - before,
        copies=(after - before) / logits_mb)


@torch.no_grad()
def measure_model(path: str, cfg_options: dict, size: Sequence[int], rounds: int, device: str) -> float:
    """Milliseconds of a forward pass with random weights."""
    model = random_model(path, cfg_options, device)
    inputs = torch.rand(1, 3, *size, device=device)
    return milliseconds(lambda: model(inputs), rounds, torch.device(device))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Measure and report; the parser tells what is wrong with the options."""
    if args.rounds < 1:
        parser.error('--rounds must be at least 1')
    model_ms = in_own_process(measure_model, args.config, args.cfg_options, args.size, args.rounds, args.device)
    figures = dict(
        config=args.config,
        size=list(args.size),
        device=args.device,
        dtype=args.dtype,
        threads=torch.get_num_threads(),
        model_ms=model_ms,
        scores={})
    print(f'forward pass of {args.config} at {args.size[0]} x {args.size[1]}: {model_ms:.0f} ms; {args.device}, '
          f'{figures["threads"]} thread(s)')
    for name in args.scores:
        row = in_own_process(measure_score, name, args.size, args.channels, args.rounds, args.device, args.dtype)
        row['share'] = row['ms'] / model_ms
        figures['scores'][name] = row
        share, copies = (f' {verdict(row[key], TARGETS[key])}' if name in CHEAP else '' for key in ('share', 'copies'))
        print(f'{name:<12}{row["ms"]:>8.0f} ms, share {row["share"]:.4f}{share}; {row["mb"]:.0f} MB, '
              f'{row["copies"]:.2f} copies of the logits in float32{copies}')
    write_json(args.json, figures)
