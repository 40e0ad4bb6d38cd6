# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Make what the benchmarks with hidden labels take.

    python tools/export_submission.py smiyc work_dirs/scores work_dirs/submission --method MGCDA
    python tools/export_submission.py fishyscapes work_dirs/container --config configs/mgcda_cityscapes.py \
        --checkpoint checkpoints/mgcda.pth

``smiyc``: score maps ``DIR/{RoadAnomaly21,RoadObstacle21,...}/NAME.npy``, as ``tools/test.py --out`` writes them,
become SegmentMeIfYouCan's ``OUT/anomaly_p/METHOD/{AnomalyTrack-all,ObstacleTrack-all,...}/NAME.hdf5`` in float16.
``fishyscapes``: the folder that a container is built from. Both are read back and compared with the benchmark's rules.
"""
import argparse
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, DictAction
from mmengine.utils import ProgressBar
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'projects'))
from mgcda.datasets.official import official_num_images
from mgcda.evaluation.results import read_results
from mgcda.evaluation.score_maps import find_scores, read_scores
from mgcda.evaluation.submissions.smiyc import (
    FOLDER,
    IMAGE_ENDING,
    SET_OF_BENCHMARK,
    SMIYC_SETS,
    RankMap,
    check_frames,
    check_smiyc,
    frame_id,
    smiyc_path,
    to_float16,
    write_smiyc,
)
from mgcda.utils.configs import find_pipeline, read_config
from mgcda.utils.files import write_file

#: Of so many pixels of a data set the rank map is made.
MAX_SAMPLED_PIXELS = 1 << 24
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp')
CONTAINER_FILES = ('run.py', 'Dockerfile', 'fishyscapes.def')
PACKAGE_FILES = ('setup.py', 'pyproject.toml', 'requirements.txt', 'constraints.txt', 'LICENSE')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Make what the benchmarks with hidden labels take')
    commands = parser.add_subparsers(dest='benchmark', required=True)
    smiyc = commands.add_parser('smiyc', help='the files of SegmentMeIfYouCan')
    smiyc.set_defaults(export=export_smiyc)
    smiyc.add_argument('scores', metavar='DIR', help='folder with a folder of score maps for each data set')
    smiyc.add_argument('out', metavar='OUT', help='folder to write to')
    smiyc.add_argument('--method', required=True, help='name of the method, which names its folder')
    smiyc.add_argument(
        '--images',
        nargs='+',
        default=(),
        metavar='FOLDER',
        help='folders of the images: every map '
        'must have its image there, and its size')
    smiyc.add_argument(
        '--map',
        choices=('none', 'rank'),
        default='none',
        help='rank: the scores of each data set are replaced by '
        'steps of their ranks in [0, 1], where float16 cannot hold them or would make many of them equal')
    smiyc.add_argument('--negate', action='store_true', help='smaller scores are more anomalous: change their sign')
    smiyc.add_argument('--partial', action='store_true', help='allow sets that are not complete, for trials')
    smiyc.add_argument('--suffix', help='what names of score maps end on, such as _score.npy; default: the extension')
    smiyc.add_argument('--key', help='entry of .npz and HDF5 files')
    smiyc.add_argument('--overwrite', action='store_true', help='replace an earlier export of the method')
    fishyscapes = commands.add_parser('fishyscapes', help='the folder that a container for Fishyscapes is built from')
    fishyscapes.set_defaults(export=export_fishyscapes)
    fishyscapes.add_argument('out', metavar='OUT', help='folder to write to; it must not exist')
    fishyscapes.add_argument('--config', required=True, help='config of the model')
    fishyscapes.add_argument('--checkpoint', required=True, help='its weights, best published ones')
    fishyscapes.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings of the config')
    fishyscapes.add_argument(
        '--results',
        help='results.json with FS_LostAndFound, the validation set: also write the '
        'validation_performance.json of the pull request')
    return parser.parse_args(argv)


# SegmentMeIfYouCan


def export_smiyc(args: argparse.Namespace) -> None:
    """Write the files of SegmentMeIfYouCan and read them back."""
    if not args.method or '/' in args.method or args.method.startswith('.'):
        raise ValueError(f"--method must be a name without '/', and without '.' in front, got {args.method!r}")
    folder = Path(args.out, FOLDER, args.method)
    if folder.exists() and not args.overwrite:
        raise ValueError(f'{folder} exists already: write to another folder, or replace it with --overwrite')
    sets = find_sets(Path(args.scores), args.suffix)
    for name, maps in sets.items():
        check_frames(name, maps, args.partial)
    sizes = image_sizes(args.images, sets)
    # What is complete and right takes its name, and the place of an earlier export, only then.
    temporary = f'.{args.method}.tmp'
    try:
        notes = write_sets(sets, temporary, args)
        counts = check_smiyc(args.out, temporary, args.partial, sizes)
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(temporary).rename(folder)
    finally:
        shutil.rmtree(folder.with_name(temporary), ignore_errors=True)
    for name, splits in counts.items():
        absent = [split for split in SMIYC_SETS[name] if split not in splits]
        print(f'{name}: ' + ', '.join(f'{count} of {split}' for split, count in splits.items()) +
              (f'; nothing of {", ".join(absent)}' if absent else ''))
    print(*notes, f'written to {folder} and read back', sep='\n')


def write_sets(sets: dict[str, dict[str, Path]], method: str, args: argparse.Namespace) -> list[str]:
    """Write the files of all sets; what float16 leaves of the scores of each."""
    shutil.rmtree(Path(args.out, FOLDER, method), ignore_errors=True)
    bar = ProgressBar(sum(map(len, sets.values())))
    notes = []
    for name, maps in sets.items():
        rank_map = RankMap(sample_pixels(maps, args)) if args.map == 'rank' else None
        before, after = np.zeros(2, int), np.zeros(2, int)
        for frame, path in maps.items():
            scores = load(path, args)
            try:
                rounded = to_float16(scores) if rank_map is None else rank_map(scores)
            except ValueError as error:
                raise ValueError(f'{path}: {error} (--map rank)') from error
            write_smiyc(smiyc_path(args.out, method, name, frame), rounded)
            before += count_different(scores)
            after += count_different(rounded)
            bar.update()
        notes.append(f'{name}: {after[0]} of {before[0]} different scores, counted in each frame, are still different; '
                     f'among the largest hundredth of each frame {after[1]} of {before[1]}')
    print()
    return notes


def find_sets(root: Path, suffix: str | None) -> dict[str, dict[str, Path]]:
    """Set of the benchmark -> frame -> score map."""
    if not root.is_dir():
        raise FileNotFoundError(f'folder of score maps not found: {root}')
    sets: dict[str, dict[str, Path]] = {}
    for benchmark, name in SET_OF_BENCHMARK.items():
        if not (root / benchmark).is_dir():
            continue
        if name in sets:
            raise ValueError(f'{root} has several folders of {name}, one of them {benchmark}: leave one, that of all '
                             'frames')
        maps = {frame_id(stem): path for stem, path in find_scores(root / benchmark, suffix).items()}
        sets[name] = maps
    if not sets:
        raise ValueError(f'{root} has none of the folders {", ".join(SET_OF_BENCHMARK)}')
    return sets


def load(path: Path, args: argparse.Namespace) -> np.ndarray:
    """Score map, larger = more anomalous."""
    scores = read_scores(path, args.key)
    return -scores if args.negate else scores


def count_different(scores: np.ndarray) -> np.ndarray:
    """Number of different scores, and of those among the largest hundredth of the pixels."""
    ordered = np.sort(scores, axis=None)
    new = np.append(True, ordered[1:] != ordered[:-1])
    top = -(-ordered.size // 100)
    return np.array([new.sum(), new[-top + 1:].sum() + 1 if top > 1 else 1])


def sample_pixels(maps: dict[str, Path], args: argparse.Namespace) -> np.ndarray:
    """Scores of evenly spaced pixels of all maps."""
    sampled: list[np.ndarray] = []
    for path in maps.values():
        scores = load(path, args)
        step = -(-scores.size * len(maps) // MAX_SAMPLED_PIXELS)
        sampled.append(scores.reshape(-1)[::step])
    return np.concatenate(sampled)


def image_sizes(folders: Sequence[str], sets: dict[str, dict[str, Path]]) -> dict[str, tuple[int, int]]:
    """Frame -> (H, W) of its image, of all frames, where folders are given."""
    sizes: dict[str, tuple[int, int]] = {}
    frames = {frame for maps in sets.values() for frame in maps}
    for folder in folders:
        for path in sorted(Path(folder).rglob('*')):
            frame = frame_id(path.stem)
            if path.suffix.lower() in IMAGE_SUFFIXES and frame in frames:
                with Image.open(path) as image:
                    sizes[frame] = image.height, image.width
    missing = sorted(frames - sizes.keys()) if folders else []
    if missing:
        raise ValueError(f'{len(missing)} score maps have no image *{missing[0]}[{IMAGE_ENDING}].* in '
                         f'{", ".join(folders)}, such as {missing[:5]}')
    return sizes


# Fishyscapes


def export_fishyscapes(args: argparse.Namespace) -> None:
    """Write the folder of the container and load the model from it."""
    out = Path(args.out)
    if out.exists():
        raise ValueError(f'{out} exists already: name another folder')
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint {args.checkpoint} does not exist')
    cfg = read_config(args.config, args.cfg_options)
    if not cfg.get('model') or not cfg.get('test_dataloader'):
        raise ValueError(f'{args.config} must have a model and a test_dataloader, whose pipeline loads images')
    performance = None if args.results is None else validation_performance(args.results)
    try:
        write_container(out, cfg, args.checkpoint)
        if performance is not None:
            write_file(out / 'validation_performance.json', performance.encode())
        self_test(out)
    except BaseException:  # an interrupted one, too, is not left for somebody to build
        shutil.rmtree(out, ignore_errors=True)
        raise
    print(f'written to {out}: see its Dockerfile and fishyscapes.def')


def write_container(out: Path, cfg: Config, checkpoint: str) -> None:
    """Copy entry script, recipes, package and model."""
    (out / 'model/files').mkdir(parents=True)
    for name in CONTAINER_FILES:
        shutil.copy(ROOT / 'tools/fishyscapes_container' / name, out / name)
    (out / 'package').mkdir()
    for name in PACKAGE_FILES:
        shutil.copy(ROOT / name, out / 'package' / name)
    shutil.copytree(
        ROOT / 'projects', out / 'package/projects', ignore=shutil.ignore_patterns('__pycache__', '*.egg-info'))
    shutil.copy(checkpoint, out / 'model/checkpoint.pth')
    Config(
        dict(
            default_scope=cfg.get('default_scope', 'mmseg'),
            custom_imports=cfg.get('custom_imports', dict(imports=['mgcda'])),
            model=bundle(cfg.model.to_dict(), out / 'model'),
            test_dataloader=dict(dataset=dict(pipeline=find_pipeline(cfg.test_dataloader.dataset))))).dump(
                out / 'model/config.py')


def self_test(out: Path) -> None:
    """Load the model from the folder of the container, by its own entry script, and try it."""
    spec = importlib.util.spec_from_file_location('container_run', out / 'run.py')
    entry = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entry)
    folder = os.getcwd()
    try:
        entry.main(['--model', str(out.resolve() / 'model'), '--self-test', '--device', 'cpu'])
    finally:
        os.chdir(folder)


def bundle(value: Any, out: Path) -> Any:
    """Copy every file that a part of a config names to ``files`` below ``out``; the part with the new names."""
    if isinstance(value, dict):
        return {key: bundle(entry, out) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(bundle(entry, out) for entry in value)
    if not isinstance(value, str) or not Path(value).is_file():
        return value
    name = f'files/{len(os.listdir(out / "files"))}_{Path(value).name}'
    if value.endswith('.py'):
        Config.fromfile(value).dump(out / name)
    else:
        shutil.copy(value, out / name)
    return name


def validation_performance(path: str) -> str:
    """What the validation of a submission must reproduce to 0.01: AP and FPR95 of FS LostAndFound, as fractions."""
    content = read_results(path)
    data_sets = content['data_sets']
    if 'FS_LostAndFound' not in data_sets:
        raise ValueError(f'{path} has no FS_LostAndFound, but {sorted(data_sets)}')
    if content['protocol'] != 'fishyscapes':
        raise ValueError(f"{path} is of the protocol {content['protocol']!r}; the validation goes by 'fishyscapes'")
    wanted, count = official_num_images()['FS_LostAndFound'], data_sets['FS_LostAndFound']['num_images']
    if count != wanted:
        raise ValueError(f'{path} is of {count} images of FS_LostAndFound; the validation is on all {wanted}')
    metrics = data_sets['FS_LostAndFound']['metrics']
    return '{{\n  "ap": {},\n  "fpr": {}\n}}\n'.format(metrics['AP'] / 100, metrics['FPR95'] / 100)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    args.export(args)


if __name__ == '__main__':
    main()
