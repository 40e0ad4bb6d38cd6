# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Time and memory of scores of class logits for a frame, against the forward pass of a segmenter.

    python tools/analysis_tools/benchmark_scores.py CONFIG --cfg-options model.backbone.depth=50
    python tools/analysis_tools/benchmark_scores.py CONFIG --device cuda --dtype float16

Scores are computed of made-up logits (1, 19, H, W) at the size of the image, as AnomalySegmentor does. Every score runs in a
process of its own, so that its peak memory is its own. CONFIG is that of a segmenter, which gets random weights.
"""
import argparse
import json
import os
import statistics
import sys
import time
from typing import Callable, List, Sequence

import torch
from mmengine.config import DictAction

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from benchmark_utils import in_own_process, memory, random_model, verdict, wait  # noqa: E402

from mgcda.scores import build_score  # noqa: E402

SCORES = ('msp', 'entropy', 'margin', 'max_logit', 'energy')
NUM_CLASSES = 19
#: Share of the forward pass, and copies of the logits, at most.
TARGETS = dict(share=1 / 10, copies=2)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the segmenter')
    parser.add_argument('--scores', nargs='+', default=list(SCORES), help='default: %(default)s')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), default=(1024, 2048), help='size of a frame')
    parser.add_argument('--rounds', type=int, default=5, help='runs that are timed')
    parser.add_argument('--device', default='cpu', help='where everything is')
    parser.add_argument('--dtype', choices=('float32', 'float16', 'bfloat16'), default='float32', help='of the logits')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    parser.add_argument('--json', help='file to write the figures to')
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error('--rounds must be at least 1')
    return args


def milliseconds(function: Callable[[], None], rounds: int, device: torch.device) -> float:
    """Median of several runs, after one that is not counted."""
    times: List[float] = []
    for _ in range(rounds + 1):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])


@torch.no_grad()
def measure_score(name: str, size: Sequence[int], rounds: int, device: str, dtype: str) -> dict:
    """Milliseconds of a score, and what it takes in memory, in megabytes and in copies of the logits in float32."""
    device = torch.device(device)
    scorer = build_score(name)
    # In place: what is freed before would hide what the score takes.
    seg_logits = torch.empty(1, NUM_CLASSES, *size, device=device, dtype=getattr(torch, dtype)).normal_(std=3)
    outputs = dict(seg_logits=seg_logits)
    scorer(dict(seg_logits=seg_logits[..., :8, :8]))
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) / 1e6 if device.type == 'cuda' else memory('VmRSS')
    scorer(outputs)
    wait(device)
    after = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == 'cuda' else memory('VmHWM')
    logits_mb = seg_logits.numel() * 4 / 1e6
    return dict(ms=milliseconds(lambda: scorer(outputs), rounds, device), mb=after - before,
                copies=(after - before) / logits_mb)


@torch.no_grad()
def measure_model(path: str, cfg_options: dict, size: Sequence[int], rounds: int, device: str) -> float:
    """Milliseconds of a forward pass with random weights."""
    model = random_model(path, cfg_options, device)
    inputs = torch.rand(1, 3, *size, device=device)
    return milliseconds(lambda: model(inputs), rounds, torch.device(device))


def main() -> None:
    """Run the command line."""
    args = parse_args()
    model_ms = in_own_process(measure_model, args.config, args.cfg_options, args.size, args.rounds, args.device)
    figures = dict(config=args.config, size=list(args.size), device=args.device, dtype=args.dtype,
                   threads=torch.get_num_threads(), model_ms=model_ms, scores={})
    print(f'forward pass of {args.config} at {args.size[0]} x {args.size[1]}: {model_ms:.0f} ms; {args.device}, '
          f'{figures["threads"]} thread(s)')
    for name in args.scores:
        row = in_own_process(measure_score, name, args.size, args.rounds, args.device, args.dtype)
        row['share'] = row['ms'] / model_ms
        figures['scores'][name] = row
        print(f'{name:<10}{row["ms"]:>8.0f} ms, share {row["share"]:.4f} {verdict(row["share"], TARGETS["share"])}; '
              f'{row["mb"]:.0f} MB, {row["copies"]:.2f} copies of the logits in float32 '
              f'{verdict(row["copies"], TARGETS["copies"])}')
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump(figures, file, indent=1)


if __name__ == '__main__':
    main()
