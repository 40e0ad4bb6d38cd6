# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny_dissimilarity import ROOT, quick_runs, write_tiny_checkpoint, write_tiny_mgcda

from mgcda.apis import AnomalyInferencer
from mgcda.evaluation.results import write_results


@pytest.fixture
def export(load_tool):
    return load_tool('tools/export_submission.py').main


class TestSMIYC:

    @pytest.fixture
    def scores(self, tmp_path) -> Path:
        """A complete RoadAnomaly21, and a frame of LostAndFound."""
        rng = np.random.default_rng(0)
        frames = [f'cow{i:04}' for i in range(100)] + [f'validation{i:04}' for i in range(10)]
        folders = dict(RoadAnomaly21=frames, LostAndFound_test=['02_Hanns_Klemm_Str_44_000000_000020_leftImg8bit'])
        for name, stems in folders.items():
            (tmp_path / 'scores' / name).mkdir(parents=True)
            for stem in stems:
                np.save(tmp_path / 'scores' / name / f'{stem}.npy', rng.normal(size=(4, 6)).astype(np.float32))
        return tmp_path / 'scores'

    def read(self, root: Path, set_name: str, frame: str) -> np.ndarray:
        with h5py.File(root / 'anomaly_p/Ours' / set_name / f'{frame}.hdf5') as file:
            return file['value'][:]

    def test_a_complete_set(self, scores, tmp_path, export, capsys) -> None:
        (scores / 'LostAndFound_test').rename(tmp_path / 'elsewhere')
        export(['smiyc', str(scores), str(tmp_path / 'out'), '--method', 'Ours'])
        assert 'AnomalyTrack-all: 100 of test, 10 of validation\n' in capsys.readouterr().out
        files = sorted((tmp_path / 'out/anomaly_p/Ours').rglob('*.*'))
        assert len(files) == 110 and {path.suffix for path in files} == {'.hdf5'}
        for frame in ('cow0007', 'validation0000'):
            value = self.read(tmp_path / 'out', 'AnomalyTrack-all', frame)
            assert value.dtype == np.float16
            np.testing.assert_array_equal(value, np.load(scores / f'RoadAnomaly21/{frame}.npy').astype(np.float16))
        with pytest.raises(ValueError, match='Ours exists already'):
            export(['smiyc', str(scores), str(tmp_path / 'out'), '--method', 'Ours'])
        export(['smiyc', str(scores), str(tmp_path / 'out'), '--method', 'Ours', '--overwrite', '--negate'])
        np.testing.assert_array_equal(self.read(tmp_path / 'out', 'AnomalyTrack-all', 'validation0000'), -value)

    def test_incomplete_sets_need_the_option(self, scores, tmp_path, export, capsys) -> None:
        command = ['smiyc', str(scores), str(tmp_path / 'out'), '--method', 'Ours']
        with pytest.raises(ValueError, match='LostAndFound-test: 1 frames of test, the benchmark has 1203'):
            export(command)
        assert not (tmp_path / 'out').exists()
        export([*command, '--partial'])
        assert 'LostAndFound-test: 1 of test\n' in capsys.readouterr().out
        assert self.read(tmp_path / 'out', 'LostAndFound-test', '02_Hanns_Klemm_Str_44_000000_000020').shape == (4, 6)

    def test_maps_are_compared_with_their_images(self, scores, tmp_path, export) -> None:
        images = tmp_path / 'images'
        images.mkdir()
        command = ['smiyc', str(scores), str(tmp_path / 'out'), '--method', 'Ours', '--partial']
        command += ['--images', str(images)]
        with pytest.raises(ValueError, match='111 score maps have no image'):
            export(command)
        for path in scores.rglob('*.npy'):
            cv2.imwrite(str(images / f'{path.stem}.png'), np.zeros((4, 6, 3), np.uint8))
        export(command)
        cv2.imwrite(str(images / 'cow0000.png'), np.zeros((8, 12, 3), np.uint8))
        with pytest.raises(ValueError, match=r'cow0000.hdf5 is \(4, 6\), its image \(8, 12\)'):
            export([*command, '--overwrite'])
        # The earlier export is still there, and nothing else.
        assert [path.name for path in (tmp_path / 'out/anomaly_p').iterdir()] == ['Ours']
        assert self.read(tmp_path / 'out', 'AnomalyTrack-all', 'cow0000').shape == (4, 6)

    def test_scores_beyond_float16_are_mapped_when_asked_for(self, scores, tmp_path, export, capsys) -> None:
        path = scores / 'RoadAnomaly21/cow0000.npy'
        np.save(path, np.full((4, 6), 1e6, np.float32))
        command = ['smiyc', str(scores), str(tmp_path / 'out'), '--method', 'Ours', '--partial', '--overwrite']
        with pytest.raises(ValueError, match=r'cow0000.npy: scores .* do not fit into float16.*\(--map rank\)'):
            export(command)
        assert not list((tmp_path / 'out').rglob('*Ours*'))
        export([*command, '--map', 'rank'])
        # 109 frames of 24 different scores, and one of a single score.
        assert 'AnomalyTrack-all: 2617 of 2617 different scores, counted in each frame' in capsys.readouterr().out
        pooled = [np.load(path).reshape(-1) for path in sorted((scores / 'RoadAnomaly21').iterdir())]
        mapped = [
            self.read(tmp_path / 'out', 'AnomalyTrack-all', path.stem).reshape(-1)
            for path in sorted((scores / 'RoadAnomaly21').iterdir())
        ]
        order = np.argsort(np.concatenate(pooled), kind='stable')
        assert (np.diff(np.concatenate(mapped)[order].astype(float)) >= 0).all()

    def test_different_scores_are_counted(self, load_tool) -> None:
        scores = np.concatenate([np.arange(900), np.full(90, 1000), [2000] * 9, [3000]]).reshape(10, 100)
        tool = load_tool('tools/export_submission.py')
        assert tool.count_different(scores).tolist() == [903, 2]
        assert tool.count_different(np.zeros((2, 3))).tolist() == [1, 1]

    def test_wrong_folders_are_named(self, scores, tmp_path, export) -> None:
        out = str(tmp_path / 'out')
        with pytest.raises(FileNotFoundError, match='folder of score maps not found'):
            export(['smiyc', str(tmp_path / 'none'), out, '--method', 'Ours'])
        with pytest.raises(ValueError, match='has none of the folders RoadAnomaly21'):
            export(['smiyc', str(tmp_path), out, '--method', 'Ours'])
        for method in ('a/b', '..', '.hidden', ''):
            with pytest.raises(ValueError, match="must be a name without '/'"):
                export(['smiyc', str(scores), out, '--method', method, '--overwrite'])
        (scores / 'LostAndFound_testNoKnown').mkdir()
        np.save(scores / 'LostAndFound_testNoKnown/a.npy', np.zeros((2, 2)))
        with pytest.raises(ValueError, match='several folders of LostAndFound-test'):
            export(['smiyc', str(scores), out, '--method', 'Ours'])


class TestFishyscapes:

    @pytest.fixture(scope='class')
    def tiny(self, tmp_path_factory) -> Path:
        """Folder of a tiny MGCDA and its checkpoint."""
        folder = tmp_path_factory.mktemp('tiny')
        write_tiny_checkpoint(write_tiny_mgcda(folder), folder / 'epoch_1.pth')
        return folder

    def test_the_container_runs_on_images(self, tiny, tmp_path, export) -> None:
        out, inputs = tmp_path / 'container', tmp_path / 'input'
        data_set = dict(num_images=100, num_normal=1, num_anomaly=1, metrics=dict(AP=79.25, FPR95=2.5))
        write_results(tmp_path / 'r.json',
                      dict(protocol='fishyscapes', mode='exact', data_sets=dict(FS_LostAndFound=data_set)))
        with quick_runs():
            export([
                'fishyscapes',
                str(out), '--config',
                str(tiny / 'tiny_mgcda.py'), '--checkpoint',
                str(tiny / 'epoch_1.pth'), '--results',
                str(tmp_path / 'r.json')
            ])
        assert json.loads((out / 'validation_performance.json').read_text()) == dict(ap=0.7925, fpr=0.025)
        assert {path.name
                for path in out.iterdir()
                } == {'run.py', 'Dockerfile', 'fishyscapes.def', 'package', 'model', 'validation_performance.json'}
        # Nothing refers to where the files came from.
        assert not [path for path in out.rglob('*.py') if str(tiny) in path.read_text()]
        assert len(list((out / 'model/files').iterdir())) == 4

        inputs.mkdir()
        for number in ('0007', '0001'):
            image = cv2.resize(cv2.imread(str(tiny / 'road_anomaly/frames/0.jpg')), (64 + int(number), 40))
            cv2.imwrite(str(inputs / f'{number}_04_Maurener_Weg_8_000000_000030_rgb.png'), image)
        environment = dict(os.environ, PYTHONPATH=f'{out}/package/projects:{ROOT}/tests', OMP_NUM_THREADS='1')
        command = [sys.executable, out / 'run.py', '--input', inputs, '--output', tmp_path / 'output']
        process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        assert '2 of 2: 0007_04_Maurener' in process.stdout
        names = [f'{number}_{kind}.npy' for number in ('0001', '0007') for kind in ('anomaly', 'segmentation')]
        assert sorted(os.listdir(tmp_path / 'output')) == names

        inferencer = AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'))
        expected = inferencer(inputs / '0007_04_Maurener_Weg_8_000000_000030_rgb.png')['predictions'][0]
        np.testing.assert_allclose(
            np.load(tmp_path / 'output/0007_anomaly.npy'), expected.anomaly_scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(np.load(tmp_path / 'output/0007_segmentation.npy'), expected.segmentation)

    def test_every_file_that_the_docker_file_copies_is_there(self) -> None:
        tool = (ROOT / 'tools/export_submission.py').read_text()
        docker = (ROOT / 'tools/fishyscapes_container/Dockerfile').read_text()
        for name in ('requirements.txt', 'constraints.txt'):
            assert f'package/{name}' in docker and f"'{name}'" in tool and (ROOT / name).is_file()

    def test_models_without_a_segmentation_are_refused(self, tiny, tmp_path, export) -> None:
        (tmp_path / 'binary.py').write_text(f"""
_base_ = ['{tiny}/tiny_mgcda.py']
model = dict(
    _delete_=True,
    type='AnomalySegmentor',
    data_preprocessor=dict(type='SegDataPreProcessor'),
    backbone=dict(type='TinyPyramid', channels=(4, )),
    decode_head=dict(type='FCNHead', in_channels=4, in_index=0, channels=4, num_convs=1, num_classes=2),
    test_cfg=dict(mode='whole'))
""")
        cfg = Config.fromfile(tmp_path / 'binary.py')
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'binary.pth')
        inferencer = AnomalyInferencer(cfg, str(tmp_path / 'binary.pth'))
        assert inferencer(tiny / 'road_anomaly/frames/0.jpg')['predictions'][0].segmentation is None
        folder = Path.cwd()
        with quick_runs(), pytest.raises(ValueError, match='holds no segmenter of the 19 classes'):
            export([
                'fishyscapes',
                str(tmp_path / 'out'), '--config',
                str(tmp_path / 'binary.py'), '--checkpoint',
                str(tmp_path / 'binary.pth')
            ])
        assert not (tmp_path / 'out').exists() and Path.cwd() == folder

    def test_an_interrupted_export_leaves_nothing(self, tiny, tmp_path, load_tool, monkeypatch) -> None:
        tool = load_tool('tools/export_submission.py')

        def interrupt(*args, **kwargs) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(tool.shutil, 'copytree', interrupt)
        with pytest.raises(KeyboardInterrupt):
            tool.main([
                'fishyscapes',
                str(tmp_path / 'out'), '--config',
                str(tiny / 'tiny_mgcda.py'), '--checkpoint',
                str(tiny / 'epoch_1.pth')
            ])
        assert not (tmp_path / 'out').exists()

    def test_wrong_files_are_named(self, tiny, tmp_path, export) -> None:
        arguments = ['--config', str(tiny / 'tiny_mgcda.py'), '--checkpoint']
        with pytest.raises(FileNotFoundError, match='checkpoint none.pth does not exist'):
            export(['fishyscapes', str(tmp_path / 'out'), *arguments, 'none.pth'])
        with pytest.raises(ValueError, match='must have a model and a test_dataloader'):
            export([
                'fishyscapes',
                str(tmp_path / 'out'), *arguments,
                str(tiny / 'epoch_1.pth'), '--cfg-options', 'test_dataloader=None'
            ])
        with pytest.raises(ValueError, match="no key 'modle', did you mean 'model'"):
            export([
                'fishyscapes',
                str(tmp_path / 'out'), *arguments,
                str(tiny / 'epoch_1.pth'), '--cfg-options', 'modle.score=msp'
            ])
        data_set = dict(num_images=99, num_normal=1, num_anomaly=1, metrics=dict(AP=79.25, FPR95=2.5))
        for name, protocol, message in (('FS_Static', 'fishyscapes', r"no FS_LostAndFound, but \['FS_Static'\]"),
                                        ('FS_LostAndFound', 'pebal', "the protocol 'pebal'; the validation goes by"),
                                        ('FS_LostAndFound', 'fishyscapes', 'is of 99 images .* on all 100')):
            write_results(tmp_path / 'r.json', dict(protocol=protocol, mode='exact', data_sets={name: data_set}))
            with pytest.raises(ValueError, match=message):
                export([
                    'fishyscapes',
                    str(tmp_path / 'out'), *arguments,
                    str(tiny / 'epoch_1.pth'), '--results',
                    str(tmp_path / 'r.json')
                ])
        assert not (tmp_path / 'out').exists()
        with pytest.raises(ValueError, match='exists already'):
            export(['fishyscapes', str(tmp_path), *arguments, str(tiny / 'epoch_1.pth')])
