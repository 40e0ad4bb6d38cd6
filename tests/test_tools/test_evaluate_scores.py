# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import csv
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS
from sklearn.metrics import average_precision_score
from tiny_dissimilarity import quick_runs, write_tiny_mgcda

from mgcda.evaluation.results import read_results


@pytest.fixture(scope='module')
def tested(tmp_path_factory) -> Path:
    """Folder of a tiny MGCDA that was tested on its two data sets: score maps in ``maps``, its results on the side."""
    folder = tmp_path_factory.mktemp('tested')
    cfg = Config.fromfile(write_tiny_mgcda(folder))
    torch.manual_seed(0)
    torch.save(dict(meta=dict(), state_dict=MODELS.build(cfg.model).state_dict()), folder / 'epoch_1.pth')
    cfg.load_from, cfg.log_level = str(folder / 'epoch_1.pth'), 'WARNING'
    cfg.test_evaluator.update(output_dir=str(folder / 'maps'), keep_results=True)
    with quick_runs():
        tested.results = Runner.from_cfg(cfg).test()
    return folder


@pytest.fixture
def maps(tested, tmp_path) -> Path:
    """A copy of the score maps, to be changed."""
    return Path(shutil.copytree(tested / 'maps', tmp_path / 'maps'))


@pytest.fixture
def evaluate(tested, load_tool):
    """Run the tool on the tiny data sets."""
    tool = load_tool('tools/analysis_tools/evaluate_scores.py')

    def run(folder: Path, *options) -> dict:
        arguments = [folder, '--config', tested / 'tiny_mgcda.py', '--workers', '0', *options]
        return tool.main([str(argument) for argument in arguments])

    return run


def convert(maps: Path, write, ending: str = '.npy') -> None:
    """Replace every map of RoadAnomaly by one of another format, and leave out the other data set."""
    shutil.rmtree(maps / 'Fishyscapes')
    for path in sorted((maps / 'RoadAnomaly').iterdir()):
        scores = np.load(path)
        path.unlink()
        write(path.with_name(path.stem + ending), scores)


def read_labels(tested: Path) -> np.ndarray:
    paths = [tested / f'road_anomaly/frames/{i}.labels/labels_semantic.png' for i in range(3)]
    return np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == 2 for path in paths])


def test_results_are_those_of_the_test(tested, evaluate, tmp_path, capsys) -> None:
    results = evaluate(tested / 'maps', '--out', tmp_path / 'r.json')
    assert f'RoadAnomaly has 60 images, but 3 were used for {tested / "maps"}: ' in capsys.readouterr().out
    assert results == expected_results() and len(results) >= 8
    written, original = (read_results(path) for path in (tmp_path / 'r.json', tested / 'maps/results.json'))
    for name, entry in original['data_sets'].items():
        again = written['data_sets'].pop(name)
        for part in ('metrics', 'curve'):
            assert again[part].keys() == entry[part].keys()
            for key, value in entry[part].items():
                np.testing.assert_array_equal(again[part][key], value)
        assert [again[key] for key in ('num_images', 'num_normal', 'num_anomaly')
                ] == [entry[key] for key in ('num_images', 'num_normal', 'num_anomaly')]
    assert not written['data_sets']


def expected_results() -> dict:
    return tested.results


def test_other_processes_read_the_same(tested, evaluate) -> None:
    assert evaluate(tested / 'maps', '--workers', '2') == expected_results()


def test_scores_of_another_code_on_the_toy_streets(toy_root, tmp_path, load_tool, repo_root) -> None:
    """The saturation of the colours, in 8-bit PNG files, against scikit-learn; where labels are classes, none count."""
    images = sorted((toy_root / 'fishyscapes/original').glob('*.png'))
    (tmp_path / 'ToyFishyscapes').mkdir()
    (tmp_path / 'ToyCityscapes').mkdir()
    scores, labels = [], []
    for path in images:
        scores.append(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2HSV)[..., 1])
        labels.append(cv2.imread(str(toy_root / 'fishyscapes/labels' / path.name), cv2.IMREAD_UNCHANGED))
        cv2.imwrite(str(tmp_path / 'ToyFishyscapes' / path.name), scores[-1])
    scores, labels = np.stack(scores), np.stack(labels)
    results = load_tool('tools/analysis_tools/evaluate_scores.py').main([
        str(tmp_path), '--config',
        str(repo_root / 'configs/toy/entropy.py'), '--cfg-options',
        f'test_dataloader.dataset.datasets.1.data_root={toy_root}/fishyscapes', '--workers', '0'
    ])
    valid = labels != 255
    expected = 100 * average_precision_score(labels[valid], scores[valid].astype(float))
    assert abs(results['ToyFishyscapes/AP'] - expected) < 1e-9


def test_only_data_sets_with_a_folder_count(maps, evaluate) -> None:
    shutil.rmtree(maps / 'Fishyscapes')
    expected = {key: value for key, value in expected_results().items() if key.startswith('RoadAnomaly/')}
    assert evaluate(maps) == expected
    shutil.rmtree(maps / 'RoadAnomaly')
    with pytest.raises(ValueError, match='has no folder of a data set of .*tiny_mgcda.py, which are RoadAnomaly'):
        evaluate(maps)


def test_modes_and_protocols(tested, evaluate) -> None:
    exact = evaluate(tested / 'maps', '--mode', 'exact', '--recalls', '0.8', '0.95')
    scores = np.stack([np.load(tested / f'maps/RoadAnomaly/{i}.npy') for i in range(3)])
    labels = read_labels(tested)
    assert abs(exact['RoadAnomaly/AP'] - 100 * average_precision_score(labels.ravel(), scores.ravel())) < 1e-9
    assert exact['RoadAnomaly/FPR80'] <= exact['RoadAnomaly/FPR95']
    pebal = evaluate(tested / 'maps', '--mode', 'exact', '--protocol', 'pebal')
    assert pebal['RoadAnomaly/AP'] == exact['RoadAnomaly/AP']


def write_hdf5(path: Path, scores: np.ndarray) -> None:
    with h5py.File(path, 'w') as file:
        file['prediction'] = scores[None].astype(np.float64)
        file['value'] = np.zeros(3)


def write_half(path: Path, scores: np.ndarray) -> None:
    np.save(path, scores.astype(np.float16))


def write_png(path: Path, scores: np.ndarray) -> None:
    assert cv2.imwrite(str(path), np.clip(scores * 200 + 30000, 0, 65535).round().astype(np.uint16))


@pytest.mark.parametrize('write, ending, options, tolerance', [
    (write_hdf5, '.hdf5', ['--key', 'prediction'], 1e-12),
    (lambda path, scores: cv2.imwrite(str(path), scores), '.tiff', [], 1e-12),
    (lambda path, scores: np.savez(path, scores=scores[..., None]), '.npz', [], 1e-12),
    (write_half, '_score.npy', ['--suffix', '_score.npy'], 0.5),
    (write_png, '.png', ['--scale', '65535'], 2),
])
def test_other_formats(tested, maps, evaluate, write, ending, options, tolerance) -> None:
    convert(maps, write, ending)
    expected = evaluate(tested / 'maps', '--mode', 'exact')
    results = evaluate(maps, *options, '--mode', 'exact')
    assert {'RoadAnomaly/AP', 'RoadAnomaly/FPR95', 'RoadAnomaly/AUROC'} < set(results)
    for key in results.keys() - {'RoadAnomaly/F1_threshold'}:
        assert abs(results[key] - expected[key]) <= tolerance, key


def test_negated_scores(maps, evaluate) -> None:
    convert(maps, lambda path, scores: np.save(path, -scores))
    negated = evaluate(maps, '--mode', 'exact')['RoadAnomaly/AUROC']
    assert abs(evaluate(maps, '--mode', 'exact', '--negate')['RoadAnomaly/AUROC'] + negated - 100) < 1e-9


def test_maps_of_another_size(tested, maps, evaluate) -> None:
    convert(maps, lambda path, scores: np.save(path, scores[::2, ::2]))
    with pytest.raises(ValueError, match=r'0.npy is \(16, 24\), the label of .*0.jpg \(32, 48\); --resize'):
        evaluate(maps)
    resized = np.stack([cv2.resize(np.load(maps / f'RoadAnomaly/{i}.npy'), (48, 32)) for i in range(3)])
    expected = 100 * average_precision_score(read_labels(tested).ravel(), resized.ravel())
    assert abs(evaluate(maps, '--resize', '--mode', 'exact')['RoadAnomaly/AP'] - expected) < 1e-3


def test_missing_and_surplus_maps_are_named(maps, evaluate) -> None:
    (maps / 'RoadAnomaly/1.npy').rename(maps / 'RoadAnomaly/one.npy')
    with pytest.raises(ValueError, match='RoadAnomaly: 1 of 3 images have no score map, such as 1; .* no image: one'):
        evaluate(maps)
    shutil.copy(maps / 'RoadAnomaly/one.npy', maps / 'RoadAnomaly/1.npy')
    with pytest.raises(ValueError, match='RoadAnomaly: 1 score maps belong to no image of the data set, such as one;'):
        evaluate(maps)
    assert evaluate(maps, '--ignore-surplus') == expected_results()


def test_a_map_is_that_of_one_image(load_tool) -> None:
    match = load_tool('tools/analysis_tools/evaluate_scores.py').match
    infos = [dict(img_path=f'data/{folder}/0001.png') for folder in 'ab']
    with pytest.raises(ValueError, match='Own: maps/0001.npy cannot be .* of all of data/a/0001.png, data/b/0001.png'):
        match(infos, {'0001': Path('maps/0001.npy')}, 'Own', None)


def test_data_sets_are_known_by_the_names_that_they_have(tested, maps, evaluate, tmp_path) -> None:
    """Also where the config gives them none; two of one name would read the same maps."""
    (tmp_path / 'config.py').write_text(f"""
test_dataloader = dict(dataset=dict(type='RepeatDataset', times=1, dataset=dict(
    type='SMIYCDataset', track='RoadAnomaly21', data_root='{tmp_path}/smiyc', pipeline=[])))
""")
    for folder in ('images', 'labels_masks'):
        (tmp_path / 'smiyc' / folder).mkdir(parents=True)
    for i in range(3):
        shutil.copy(tested / f'road_anomaly/frames/{i}.jpg', tmp_path / f'smiyc/images/validation{i}.jpg')
        label = cv2.imread(str(tested / f'road_anomaly/frames/{i}.labels/labels_semantic.png'), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(tmp_path / f'smiyc/labels_masks/validation{i}.png'), label // 2)
        (maps / f'RoadAnomaly/{i}.npy').rename(maps / f'RoadAnomaly/validation{i}.npy')
    (maps / 'RoadAnomaly').rename(maps / 'RoadAnomaly21')
    results = evaluate(maps, '--config', tmp_path / 'config.py')
    assert results['RoadAnomaly21/AP'] == expected_results()['RoadAnomaly/AP']
    (tmp_path / 'two.py').write_text("""
_base_ = 'config.py'
test_dataloader = dict(dataset=dict(_delete_=True, datasets=[_base_.test_dataloader.dataset] * 2))
""")
    with pytest.raises(ValueError, match='two.py has several data sets of the name RoadAnomaly21'):
        evaluate(maps, '--config', tmp_path / 'two.py')


def test_names_of_smiyc_frames(load_tool) -> None:
    match = load_tool('tools/analysis_tools/evaluate_scores.py').match
    infos = [dict(img_path='data/01_Str_000000_000020_leftImg8bit.png')]
    for name in ('01_Str_000000_000020', '01_Str_000000_000020_leftImg8bit'):
        assert match(infos, {name: Path('map')}, 'LostAndFound_test', None) == [Path('map')]


def test_components_size_and_images(tested, evaluate, tmp_path) -> None:
    results = evaluate(tested / 'maps', '--mode', 'exact', '--components', '5', '2', '--per-image',
                       tmp_path / 'images.csv')
    assert 0 <= results['RoadAnomaly/component_F1'] <= 100 and 'Fishyscapes/sIoU' in results
    with open(tmp_path / 'images.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and {row['data_set'] for row in rows} == {'RoadAnomaly', 'Fishyscapes'}
    fixed = evaluate(tested / 'maps', '--mode', 'exact', '--components', '5', '2', '--threshold', '1e9')
    assert fixed['RoadAnomaly/sIoU'] == 0
    small = evaluate(tested / 'maps', '--mode', 'exact', '--size', '16', '24')
    assert 'RoadAnomaly@16x24/AP' in small and 'RoadAnomaly/AP' not in small
    with pytest.raises(ValueError, match='no sizes of components for Fishyscapes: name the least size'):
        evaluate(tested / 'maps', '--components')


def test_hidden_labels_are_refused(maps, evaluate) -> None:
    with pytest.raises(ValueError, match='hidden'):
        evaluate(maps, '--cfg-options', 'test_dataloader.dataset.datasets.0.labels_hidden=True')


def test_wrong_arguments(tmp_path, evaluate) -> None:
    with pytest.raises(FileNotFoundError, match='folder of score maps not found'):
        evaluate(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match='none.py does not exist'):
        evaluate(tmp_path, '--config', 'none.py')
    with pytest.raises(ValueError, match='has no test_dataloader'):
        evaluate(tmp_path, '--cfg-options', 'test_dataloader=None')
    with pytest.raises(ValueError, match="no key 'test_dataloadr', did you mean 'test_dataloader'"):
        evaluate(tmp_path, '--cfg-options', 'test_dataloadr.dataset.data_root=x')
    for options in (['--components', '5'], ['--threshold', '0.5'], ['--protocol', 'mine']):
        with pytest.raises(SystemExit):
            evaluate(tmp_path, *options)


def test_the_default_config_names_the_benchmarks(tmp_path, load_tool) -> None:
    names = ('RoadAnomaly, FS_LostAndFound, FS_Static, RoadAnomaly21, RoadObstacle21, LostAndFound_test, '
             'LostAndFound_testNoKnown')
    with pytest.raises(ValueError, match=f'benchmarks.py, which are {names}'):
        load_tool('tools/analysis_tools/evaluate_scores.py').main([str(tmp_path)])
