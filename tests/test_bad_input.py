# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Bad input to whole runs: an error that names file or key, before the first iteration, and nothing left behind."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS, MODELS
from tiny_dissimilarity import ROOT, TinyPyramid, quick_runs, write_tiny_mgcda
from torch import Tensor

from mgcda.structures import MAP_KINDS

STREET = 'cityscapes/leftImg8bit/train/a/a_2_leftImg8bit.png'
LABEL = 'cityscapes/gtFine/train/a/a_2_gtFine_labelIds.png'


@MODELS.register_module()
class TinyBadGradient(TinyPyramid):
    """Its loss is finite, but not its gradient: the square root of 0."""

    def forward(self, x: Tensor) -> tuple:
        return tuple(level + (level.sum() * 0).sqrt() for level in super().forward(x))


@HOOKS.register_module()
class TinyWitness(Hook):
    """Notes which iterations began, in whatever run."""

    began: list[int] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None) -> None:
        self.began.append(runner.iter)


@pytest.fixture(scope='module')
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Files without a fault."""
    with quick_runs():
        yield write_tiny_mgcda(tmp_path_factory.mktemp('pristine') / 'run').parent


@pytest.fixture
def run(pristine: Path, tmp_path: Path, load_tool, forget_runs, monkeypatch) -> SimpleNamespace:
    """A copy of the files in ``folder``; ``train(key=value, ...)`` calls tools/train.py on them."""
    folder, work = tmp_path / 'run', tmp_path / 'work'
    shutil.copytree(pristine, folder)
    for path in folder.glob('*.py'):
        path.write_text(path.read_text().replace(str(pristine), str(folder)).replace(
            "dict(type='CheckpointGuardHook')]", "dict(type='CheckpointGuardHook'), dict(type='TinyWitness')]"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    TinyWitness.began.clear()

    def train(*options: str, arguments: Sequence[str] = ()) -> Runner:
        forget_runs()
        return load_tool('tools/train.py').main([
            str(folder / 'tiny_mgcda.py'), '--work-dir',
            str(work), *arguments, '--cfg-options', 'train_cfg.max_iters=2', 'log_level=ERROR', *options
        ])

    return SimpleNamespace(folder=folder, work=work, train=train)


def checkpoints(work: Path) -> list:
    return [path.name for path in work.rglob('*') if path.suffix == '.pth' or path.name == 'last_checkpoint']


def refuse(run: SimpleNamespace, error: type, words: str, *options: str) -> None:
    """The run ends with the error before its first iteration, and leaves no checkpoint."""
    with pytest.raises(error, match=words):
        run.train(*options)
    assert not TinyWitness.began and not checkpoints(run.work)


def test_these_files_train_where_nothing_is_wrong(run) -> None:
    assert run.train().iter == 2
    assert TinyWitness.began == [0, 1] and sorted(checkpoints(run.work)) == ['iter_2.pth', 'last_checkpoint']


class TestFiles:

    @pytest.mark.parametrize('missing', [
        'cityscapes/leftImg8bit/train', 'cityscapes/gtFine/train', 'coco/images', 'coco/instances.json', 'segmenter.py',
        'segmenter.pth', 'generator.pth'
    ])
    def test_missing(self, run, missing) -> None:
        path = run.folder / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        refuse(run, FileNotFoundError, re.escape(str(path)))

    def test_validation_data_is_looked_for_before_training(self, run) -> None:
        shutil.rmtree(run.folder / 'road_anomaly/frames')
        config = run.folder / 'tiny_mgcda.py'
        config.write_text(config.read_text() + 'val_dataloader = test_dataloader\nval_evaluator = test_evaluator\n'
                          "val_cfg = dict(type='ValLoop')\n")
        refuse(run, FileNotFoundError, re.escape(str(run.folder / 'road_anomaly')))

    def test_image_without_label_and_label_without_image(self, run) -> None:
        (run.folder / LABEL).unlink()
        refuse(run, ValueError, 'a/a_2')
        shutil.copy(run.folder / LABEL.replace('a_2', 'a_1'), run.folder / LABEL)
        (run.folder / STREET).unlink()
        refuse(run, ValueError, 'a/a_2')

    def test_image_without_map(self, run) -> None:
        maps, option = run.folder / 'maps', 'train_dataloader.dataset.datasets.0.maps_root='
        refuse(run, FileNotFoundError, f'maps_root not found: {re.escape(str(maps))}', f'{option}{maps}')
        for kind in MAP_KINDS:
            shutil.copytree(run.folder / 'cityscapes/leftImg8bit/train', maps / kind)
        lost = maps / 'entropy/a/a_3_leftImg8bit.png'
        lost.unlink()
        refuse(run, ValueError, f'1 maps are missing.*{re.escape(str(lost))}', f'{option}{maps}')

    @pytest.mark.parametrize('damaged', [STREET, LABEL, 'coco/images/0.jpg'])
    def test_truncated_file_is_named_by_a_worker(self, run, damaged) -> None:
        path = run.folder / damaged
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            run.train('train_dataloader.num_workers=1', 'train_cfg.max_iters=12')
        assert [name for name in checkpoints(run.work) if not torch.load(run.work / name)] == []

    def test_label_value_outside_the_contract(self, run) -> None:
        label = cv2.imread(str(run.folder / LABEL), cv2.IMREAD_UNCHANGED)
        label[0, 0] = 77
        cv2.imwrite(str(run.folder / LABEL), label)
        with pytest.raises(ValueError, match=f'{re.escape(str(run.folder / LABEL))}.*77'):
            run.train('train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=10')
        assert not checkpoints(run.work)


class TestSettings:

    @pytest.mark.parametrize('key', [
        'model', 'model.backbone', 'model.decode_head', 'model.frozen', 'model.frozen.segmenter', 'model.train_only',
        'model.train_only.projector', 'model.train_only.contrast', 'train_dataloader', 'train_dataloader.sampler',
        'train_dataloader.dataset', 'train_dataloader.dataset.datasets.0',
        'train_dataloader.dataset.datasets.1.objects', 'train_dataloader.dataset.datasets.1.pipeline.2',
        'optim_wrapper', 'optim_wrapper.optimizer', 'param_scheduler.0', 'train_cfg', 'default_hooks.mdat',
        'default_hooks.mdat.feature_classifier', 'custom_hooks.1', 'randomness'
    ])
    def test_unknown_key(self, run, key) -> None:
        refuse(run, (TypeError, ValueError), "'?foo'?", f'{key}.foo=1')

    def test_unknown_type(self, run) -> None:
        refuse(run, KeyError, 'Foo is not in the mmseg::model registry', 'model.decode_head.type=Foo')

    def test_batch_size_that_the_domains_do_not_divide(self, run) -> None:
        sizes = ['train_dataloader.batch_size=3', 'train_dataloader.sampler.batch_size=3']
        refuse(run, ValueError, 'batch_size 3 is not divisible by 2', *sizes)
        refuse(run, ValueError, 'train_dataloader.batch_size is 3, but the batch_size of its sampler is 4', sizes[0])


class TestCheckpoints:

    @pytest.mark.parametrize('role', ['segmenter', 'generator'])
    def test_frozen_network_of_another_architecture(self, run, role) -> None:
        config = run.folder / f'{role}.py'
        config.write_text(config.read_text().replace('channels=8, num_convs=1', 'channels=6, num_convs=1').replace(
            'base_channels=4', 'base_channels=8'))
        refuse(run, ValueError, f'frozen.{role}: .*{role}.pth does not fit the model')

    @pytest.mark.parametrize('role', ['segmenter', 'generator'])
    def test_frozen_network_that_would_run_code(self, run, role) -> None:

        class Payload:

            def __reduce__(self) -> tuple:
                return os.system, (f'touch {run.folder}/marker', )

        path = run.folder / f'{role}.pth'
        torch.save(dict(torch.load(path), payload=Payload()), path)
        refuse(run, ValueError, f'{role}: .*{role}.pth .*could run code.*posix.system')
        assert not (run.folder / 'marker').exists()

    def test_frozen_network_that_is_damaged(self, run) -> None:
        path = run.folder / 'segmenter.pth'
        path.write_bytes(path.read_bytes()[:1000])
        refuse(run, ValueError, 'frozen.segmenter: .*segmenter.pth is not a checkpoint, or is damaged')

    def test_run_of_another_architecture(self, run) -> None:
        run.train()
        TinyWitness.began.clear()
        for words, *options in (('does not fit the model', 'model.backbone.channels=(6,8)',
                                 'model.decode_head.in_channels=(6,8)'),
                                ('other domain classifiers', 'default_hooks.mdat.output_classifier.channels=(8,4)')):
            with pytest.raises(ValueError, match=words):
                run.train(*options, arguments=['--resume'])
        assert not TinyWitness.began


class TestDivergence:

    def test_exploding_learning_rate(self, run) -> None:
        with pytest.raises(ValueError, match=r'the loss is not finite at iteration [23] .*decode.loss_ce = (nan|inf)'):
            run.train('optim_wrapper.optimizer.lr=1e30', 'train_cfg.max_iters=6')
        assert not checkpoints(run.work)

    def test_weights_that_are_not_finite_are_not_saved(self, run) -> None:
        """The loss was finite when it was computed; the step that followed was not."""
        with pytest.raises(ValueError, match='weights are not finite after iteration 1, .*: backbone.levels.0'):
            run.train('model.backbone.type=TinyBadGradient', 'default_hooks.checkpoint.interval=1')
        assert not checkpoints(run.work)


class TestMaps:
    """tools/dataset_converters/make_maps.py, broken off."""

    def test_full_disk(self, run, load_tool, monkeypatch) -> None:
        tool, real, written = load_tool('tools/dataset_converters/make_maps.py'), os.replace, []

        def replace(source: str, target: str) -> None:
            if len(written) == 7:
                raise OSError(28, 'No space left on device', target)
            written.append(str(target))
            real(source, target)

        monkeypatch.setattr(os, 'replace', replace)
        monkeypatch.setattr(sys, 'argv', make_maps(run.folder)[1:] + ['--workers', '0'])
        with pytest.raises(OSError, match='No space left on device'):
            tool.main()
        files = [str(path) for path in (run.folder / 'maps').rglob('*') if path.is_file()]
        assert sorted(files) == sorted(written)

    @pytest.mark.slow
    @pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGKILL])
    def test_interrupted(self, run, how) -> None:
        """Every map is whole, and another run makes those that are left, the same as in one go."""
        images, out = run.folder / 'cityscapes/leftImg8bit/train', run.folder / 'maps'
        for index in range(60):
            shutil.copy(images / f'a/a_{index % 5}_leftImg8bit.png', images / f'a/b_{index}_leftImg8bit.png')
        env = dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT / 'tests'))
        command = make_maps(run.folder)
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 200
        while len(list(out.rglob('*.png'))) < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(how)
        assert process.wait(timeout=100) != 0
        maps = list(out.rglob('*.png'))
        assert 20 <= len(maps) < 65 * len(MAP_KINDS)
        assert all(path.read_bytes().endswith(b'IEND\xaeB`\x82') for path in maps)
        if how == signal.SIGINT:  # a process that is killed cannot tidy up
            assert not list(out.rglob('*.tmp'))
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True, timeout=200)
        assert len(list(out.rglob('*.png'))) == 65 * len(MAP_KINDS)
        for kind in MAP_KINDS:
            assert (out / kind / 'a/b_59_leftImg8bit.png').read_bytes() == (out / kind /
                                                                            'a/a_4_leftImg8bit.png').read_bytes()


def make_maps(folder: Path) -> list[str]:
    """Command line of the tool for the streets of a run."""
    return [
        sys.executable,
        str(ROOT / 'tools/dataset_converters/make_maps.py'),
        str(folder / 'tiny_mgcda.py'),
        str(folder / 'cityscapes/leftImg8bit/train'),
        str(folder / 'maps')
    ]
