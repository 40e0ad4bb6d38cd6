# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from tiny_components import ROOT, write_tiny_run

from mgcda.models import AnomalySegmentor
from mgcda.scores import ScoreFitter

LEAF = """
_base_ = './tiny.py'
model = dict(type='AnomalySegmentor',
             scores=['msp',
                     dict(type='SML', boundary_widths=(4, 2), dilation=1, fitted='sml.pth'),
                     dict(type='Mahalanobis', layer='backbone.conv', fitted='distance.pth', name='distance'),
                     dict(type='KNN', layer='decode_head.conv_seg:input', sample_size=300, fitted='knn.pth')])
"""
FILES = ('sml.pth', 'distance.pth', 'knn.pth')
SLIDE = [
    '--cfg-options', 'model.test_cfg.mode=slide', 'model.test_cfg.crop_size=(10,12)', 'model.test_cfg.stride=(5,5)'
]


@pytest.fixture
def job(tmp_path: Path, load_tool, forget_runs, monkeypatch) -> SimpleNamespace:
    """``job.fit(...)`` with a tiny config in the current folder, and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_tiny_run(tmp_path, num_images=5)
    config, checkpoint = tmp_path / 'leaf.py', tmp_path / 'model.pth'
    config.write_text(LEAF)
    model = MODELS.build(Config.fromfile(config).model).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('road', 'rest')))), checkpoint)

    def fit(*args: str) -> dict:
        forget_runs()
        return load_tool('tools/fit_scores.py').main([str(config), str(checkpoint), *args])

    return SimpleNamespace(fit=fit, config=config, checkpoint=checkpoint, model=model, folder=tmp_path)


def images(folder: Path) -> list:
    """Inputs (1, 3, H, W) and labels (H, W) of the data, read independently."""
    pairs = []
    for path in sorted((folder / 'data/img').iterdir()):
        image = cv2.imread(str(path))[..., ::-1].astype(np.float32)
        label = cv2.imread(str(folder / 'data/label' / path.name), cv2.IMREAD_UNCHANGED)
        pairs.append((torch.from_numpy(image.transpose(2, 0, 1).copy())[None], label))
    return pairs


def moments(vectors: np.ndarray, classes: np.ndarray) -> dict:
    """Counts, means and summed scatter of each class, from all vectors (M, D) at once."""
    groups = [vectors[classes == index].astype(np.float64) for index in range(2)]
    means = [group.mean(0) for group in groups]
    return dict(
        counts=np.array([len(group) for group in groups]),
        means=np.array(means),
        rest=[group - mean for group, mean in zip(groups, means)])


def read(path: str) -> dict:
    return torch.load(path, weights_only=True)


def assert_states_equal(folder: Path, other: Path) -> None:
    for name in FILES:
        for key, value in read(other / name)['state'].items():
            torch.testing.assert_close(read(folder / name)['state'][key], value, rtol=1e-9, atol=1e-9)


def keep(job: SimpleNamespace) -> Path:
    """Move the files away that were written; the folder that they are in."""
    (job.folder / 'kept').mkdir()
    for name in FILES:
        os.rename(name, job.folder / 'kept' / name)
    return job.folder / 'kept'


@pytest.mark.parametrize('options', [[], SLIDE])
def test_statistics_are_those_of_all_images(job, options, capsys) -> None:
    written = job.fit(*options)
    assert list(written.values()) == [[name] for name in FILES] and list(written)[1] == 'distance'
    assert '5 of 5 images of train_dataloader with the pipeline of test_dataloader' in capsys.readouterr().out
    assert not list(job.folder.glob('*partial*'))
    windows = [(slice(0, 16), slice(0, 16))]
    if options:
        windows = [(slice(y, y + 10), slice(x, x + 12)) for y in (0, 5, 6) for x in (0, 4)]
    pixels, labels, largest, predicted = [], [], [], []
    with torch.no_grad():
        for inputs, label in images(job.folder):
            total, count = torch.zeros(1, 2, 16, 16), torch.zeros(16, 16)
            for rows, columns in windows:
                crop = inputs[..., rows, columns]
                pixels.append(job.model.backbone(crop)[0][0].flatten(1).T.numpy())
                labels.append(label[rows, columns].flatten())
                total[..., rows, columns] += job.model.decode_head(job.model.backbone(crop))
                count[rows, columns] += 1
            values, indices = (total / count)[0].max(0)
            largest.append(values.numpy().reshape(-1, 1))
            predicted.append(indices.numpy().flatten())
    expected, state = moments(np.concatenate(pixels), np.concatenate(labels)), read('distance.pth')['state']
    np.testing.assert_array_equal(state['counts'], expected['counts'])
    np.testing.assert_allclose(state['means'], expected['means'], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state['scatter'], sum(rest.T @ rest for rest in expected['rest']), rtol=1e-4, atol=1e-3)
    expected, state = moments(np.concatenate(largest), np.concatenate(predicted)), read('sml.pth')['state']
    np.testing.assert_array_equal(state['counts'], expected['counts'])
    np.testing.assert_allclose(state['means'], expected['means'], rtol=1e-5)
    np.testing.assert_allclose(state['scatter'][:, 0], [(rest**2).sum() for rest in expected['rest']], rtol=1e-4)


def test_padding_of_the_network_inputs_is_void(job) -> None:
    inputs, label = images(job.folder)[0]
    with torch.no_grad():
        features = job.model.backbone(torch.nn.functional.pad(inputs, (0, 8, 0, 4)))[0][0, :, :16, :16]
    expected = moments(features.flatten(1).T.numpy(), label.flatten())
    job.fit('--max-images', '1', '--cfg-options', 'model.data_preprocessor.test_cfg.size=(20,24)')
    state = read('distance.pth')['state']
    np.testing.assert_array_equal(state['counts'], expected['counts'])
    np.testing.assert_allclose(state['means'], expected['means'], rtol=1e-5, atol=1e-5)
    assert read('sml.pth')['state']['counts'].sum() == 256


def test_file_says_what_it_belongs_to_and_is_tested_with(job, load_tool, forget_runs, monkeypatch) -> None:
    job.fit('--max-images', '3')
    content = read('sml.pth')
    assert content['type'] == 'SML' and content['classes'] == ['road', 'rest'] and content['num_images'] == 3
    assert content['config'] == str(job.config) and len(content['fingerprint']) == 64
    (job.folder / 'test.py').write_text("_base_ = './leaf.py'\n"
                                        "test_evaluator = dict(_delete_=True, type='AnomalyMetric', prefix='Tiny')\n")

    def test(checkpoint: Path) -> dict:
        forget_runs()
        monkeypatch.setenv('LOCAL_RANK', '0')
        return load_tool('tools/test.py').main([str(job.folder / 'test.py'), str(checkpoint), '--work-dir', 'work'])

    results = test(job.checkpoint)
    assert {key.split('/')[0] for key in results} and any('distance' in key for key in results)
    weights = read(str(job.checkpoint))['state_dict']
    weights['backbone.conv.bias'] = weights['backbone.conv.bias'] + 1
    torch.save(dict(state_dict=weights), 'other.pth')
    with pytest.raises(ValueError, match='sml.pth was fitted by .*leaf.py with other weights'):
        test(Path('other.pth'))


def test_cascades_are_fitted_and_tested(job, load_tool, forget_runs, monkeypatch) -> None:
    job.config.write_text("""
_base_ = './tiny.py'
head = dict(in_channels=4, channels=4, num_classes=2, norm_cfg=dict(type='BN'))
model = dict(
    type='CascadeAnomalySegmentor',
    num_stages=2,
    decode_head=[dict(head, type='FCNHead', num_convs=1), dict(head, type='OCRHead', ocr_channels=4)],
    scores=[
        'energy',
        dict(type='SML', boundary_widths=(4, 2), dilation=1, fitted='sml.pth', name='SML'),
        dict(type='KNN', layer='decode_head.1.conv_seg:input', k=3, fitted='knn.pth', name='kNN'),
        dict(type='ReAct', classifier='decode_head.1.conv_seg', fitted='react.pth', name='ReAct')])
test_evaluator = dict(_delete_=True, type='AnomalyMetric', prefix='Tiny')
""")
    model = MODELS.build(Config.fromfile(job.config).model)
    torch.save(dict(state_dict=model.state_dict()), job.checkpoint)
    assert list(job.fit().values()) == [['sml.pth'], ['knn.pth'], ['react.pth']]
    forget_runs()
    monkeypatch.setenv('LOCAL_RANK', '0')
    results = load_tool('tools/test.py').main([str(job.config), str(job.checkpoint), '--work-dir', 'work'])
    assert {key.split('/')[-2] for key in results} == {'energy', 'SML', 'kNN', 'ReAct'}
    assert all(0 <= value <= 100 for key, value in results.items() if key.endswith('AP'))


def test_interrupted_run_goes_on(job, monkeypatch, capsys) -> None:
    job.fit()
    whole, update, calls = keep(job), ScoreFitter.update, []

    def interrupted(self, data: dict) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(data)
        update(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreFitter, 'update', interrupted)
        with pytest.raises(KeyboardInterrupt):
            job.fit('--save-every', '2')
    assert os.path.isfile('sml.pth.partial0') and not os.path.isfile('sml.pth')
    for options, match in ((['--max-images', '4'], 'differs in: images'), (SLIDE, 'differs in: model'),
                           (['--cfg-options', 'model.scores.2.layer=decode_head.convs.0.conv'], 'differs in: scores')):
        with pytest.raises(ValueError, match=f'sml.pth.partial0 is of an interrupted run that {match}: .*--restart'):
            job.fit(*options)
    capsys.readouterr()
    job.fit()
    assert 'goes on after 2 of 5 images' in capsys.readouterr().out
    assert_states_equal(job.folder, whole)
    assert not os.path.isfile('sml.pth.partial0')
    Path('sml.pth.partial0').write_text('damaged')
    with pytest.raises(ValueError, match='sml.pth.partial0 is no partial statistics, or is damaged'):
        job.fit()
    job.fit('--restart')
    assert_states_equal(job.folder, whole)


def test_two_processes_fit_what_one_does(job) -> None:
    job.fit()
    whole = keep(job)
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = str(sock.getsockname()[1])
    env = {**os.environ, 'PYTHONPATH': str(ROOT / 'tests'), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    env.pop('LOCAL_RANK', None)
    process = subprocess.run([
        sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', port,
        str(ROOT / 'tools/fit_scores.py'),
        str(job.config),
        str(job.checkpoint), '--launcher', 'pytorch', '--save-every', '1'
    ],
                             cwd=job.folder,
                             env=env,
                             stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT,
                             text=True,
                             timeout=300)
    assert process.returncode == 0, process.stdout
    assert_states_equal(job.folder, whole)
    assert not list(job.folder.glob('*partial*'))


def test_fit_dataloader_takes_precedence(job, capsys) -> None:
    job.config.write_text(LEAF + 'fit_dataloader = dict(batch_size=2, dataset=dict(_base_.dataset, indices=2, '
                          'pipeline=_base_.test_pipeline))\n'
                          'other_dataloader = dict(dataset=dict(fit_dataloader["dataset"], indices=3))\n')
    job.fit()
    assert '2 of 2 images of fit_dataloader' in capsys.readouterr().out
    job.fit('--dataloader', 'other_dataloader', '--out', 'a.pth', 'b/c.pth', 'd.pth')
    assert '3 of 3 images of other_dataloader' in capsys.readouterr().out
    assert read('a.pth')['type'] == 'SML' and read('b/c.pth')['num_images'] == 3
    with pytest.raises(ValueError, match='has no third_dataloader'):
        job.fit('--dataloader', 'third_dataloader')


@pytest.mark.parametrize('options, error, match', [
    (['--out', 'a.pth'], ValueError, 'a file for each of the fitted scores'),
    (['--out', 'a.pth', './a.pth', 'b.pth'], ValueError, 'need files of their own'),
    (['--out', 'a.pth', 'data', 'b.pth'], ValueError, 'data is a folder'),
    (['--cfg-options', 'model.scores=["msp"]'], ValueError, 'has no fitted score'),
    (['--cfg-options', 'test_dataloader.dataset.pipeline.1.type=LoadAnomalyAnnotations'
      ], ValueError, 'loads anomaly labels: add a fit_dataloader'),
    (['--max-images', '0'], SystemExit, ''),
])
def test_wrong_requests_are_refused(job, options, error, match) -> None:
    with pytest.raises(error, match=match):
        job.fit(*options)


def test_scores_that_share_statistics_are_fitted_once(job) -> None:
    job.config.write_text(f"""{LEAF}
model["scores"] += [dict(type='SML', smoothing=False, fitted='sml.pth', name='rough'),
                 dict(type='SML', boundary_widths=(), fitted='copy.pth', name='plain'),
                 dict(type='SML', ignore_void=True, fitted='void.pth', name='void')]
""")
    files = job.fit()
    assert list(files.values()) == [['sml.pth', 'copy.pth'], ['distance.pth'], ['knn.pth'], ['void.pth']]
    assert torch.equal(read('copy.pth')['state']['means'], read('sml.pth')['state']['means'])
    assert read('copy.pth')['state']['counts'].sum() == 5 * 256


@pytest.mark.parametrize('loader, match', [
    ('dict(_base_.dataset, pipeline=[_base_.test_pipeline[0], _base_.test_pipeline[2]])', '0.png has no labels'),
    ('dict(_base_.dataset, pipeline=[*_base_.test_pipeline[:2], dict(type="RandomFlip", prob=1.), '
     'dict(type="PackSegInputs")])', '0.png was flipped'),
    ('dict(_base_.dataset, pipeline=_base_.test_pipeline, metainfo=dict(classes=("road", "sky"), '
     'palette=[[0, 0, 0], [1, 1, 1]]))', "has the classes .'road', 'sky'., the checkpoint was trained on .'road', 're"),
    ('dict(_base_.dataset, pipeline=_base_.test_pipeline, metainfo=dict(classes=("road", ), palette=[[0, 0, 0]]))',
     "has 1 classes .'road'., the model has 2"),
])
def test_data_of_other_kinds_is_refused(job, loader, match) -> None:
    job.config.write_text(f'{LEAF}fit_dataloader = dict(dataset={loader})\n')
    with pytest.raises(ValueError, match=match):
        job.fit()


@pytest.mark.parametrize('crop_size', ['[10,12]', '[16,16]'])  # six windows, one window
def test_models_that_infer_in_their_own_way_are_refused(job, monkeypatch, crop_size) -> None:

    def four_quarters(self, inputs: torch.Tensor, metas: list) -> torch.Tensor:
        rows = [
            torch.cat([self.encode_decode(part, metas) for part in row.chunk(2, dim=3)], dim=3)
            for row in inputs.chunk(2, dim=2)
        ]
        return torch.cat(rows, dim=2)

    monkeypatch.setattr(AnomalySegmentor, 'slide_inference', four_quarters)
    options = ['model.test_cfg.mode=slide', f'model.test_cfg.crop_size={crop_size}', 'model.test_cfg.stride=[5,5]']
    with pytest.raises(RuntimeError, match='outputs and labels cannot be paired'):
        job.fit('--cfg-options', *options)


def test_labels_that_are_no_classes_are_refused(job) -> None:
    label = np.full((16, 16), 7, np.uint8)
    cv2.imwrite(str(job.folder / 'data/label/2.png'), label)
    with pytest.raises(ValueError, match='2.png hold 7, the model has 2 classes'):
        job.fit()
