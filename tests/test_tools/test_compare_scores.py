# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_components  # noqa: F401
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS

from mgcda.evaluation.results import read_results

#: A segmenter as MMSegmentation's own configs have it, which does not know of this project.
SEGMENTER = """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[100.0] * 3, std=[50.0] * 3, bgr_to_rgb=True),
    backbone=dict(type='TinyBackbone', channels=4),
    decode_head=dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=19,
                     norm_cfg=dict(type='SyncBN')),
    test_cfg=dict(mode='whole'))
"""
DATA = """
_base_ = '{root}/configs/toy/mgcda.py'
own = dict(_base_.road_anomaly, data_root='{toy}/road_anomaly', maps_root=None, dataset_name='Own', pipeline=[
    dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')])
cityscapes = dict(_base_.cityscapes, data_root='{toy}/cityscapes', dataset_name='Classes')
test_dataloader = dict(num_workers=0, persistent_workers=False,
                       dataset=dict(datasets=[own, dict(own, dataset_name='Twin')]))
"""


@pytest.fixture
def run(tmp_path: Path, toy_root: Path, repo_root: Path, load_tool: Callable, forget_runs: Callable,
        monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.chdir(tmp_path)
    Path('segmenter.py').write_text(SEGMENTER)
    Path('data.py').write_text(DATA.format(root=repo_root, toy=toy_root))
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile('segmenter.py').model)
    torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
    tool = load_tool('tools/analysis_tools/compare_scores.py')

    def run(*args: str) -> dict:
        forget_runs()
        return tool.main(['segmenter.py', 'weights.pth', '--data', 'data.py', *args])

    return run


def test_all_scores_in_one_pass(run: Callable) -> None:
    result = run('--data-sets', 'Own', '--out', 'scores')
    names = ['msp', 'entropy', 'margin', 'max_logit', 'energy']
    assert list(dict.fromkeys(key.split('/')[1] for key in result)) == names
    assert {key.split('/')[0] for key in result} == {'Own'}
    alone = run('--data-sets', 'Own', '--scores', 'energy', '--out', 'alone')
    assert alone == {key: value for key, value in result.items() if '/energy/' in key}
    maps = [np.load(path) for path in sorted(Path('scores').glob('*/Own/*.npy'))]
    assert len(maps) == 15 and {scores.shape for scores in maps} == {maps[0].shape}
    assert len({path.parent.name for path in Path('scores').glob('*/results.json')}) == 5


def test_images_are_resized(run: Callable) -> None:
    both = run('--scores', 'msp')
    assert {key.split('/')[0] for key in both} == {'Own', 'Twin'}
    assert both['Own/msp/AP'] == both['Twin/msp/AP'] != run('--scores', 'msp', '--resize', '64', '32')['Own/msp/AP']


def test_segmentation_quality_is_that_of_mmsegmentation(run: Callable, toy_root: Path) -> None:
    """The network sees another size than labels and predictions have."""
    result = run('--data-sets', 'Classes', 'Own', '--scores', 'msp', 'energy', '--resize', '64', '32', '--out', 'out')
    cfg = Config.fromfile('segmenter.py')
    cfg.merge_from_dict(
        dict(
            work_dir='stock',
            load_from='weights.pth',
            test_cfg=dict(),
            test_evaluator=dict(type='IoUMetric'),
            test_dataloader=dict(
                batch_size=1,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='CityscapesDataset',
                    data_root=str(toy_root / 'cityscapes'),
                    test_mode=True,
                    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='Resize', scale=(64, 32)),
                        dict(type='LoadAnnotations'),
                        dict(type='PackSegInputs')
                    ]))))
    cfg.model.decode_head.norm_cfg.type = 'BN'
    expected = Runner.from_cfg(cfg).test()
    assert expected['mIoU'] > 0
    for key in ('mIoU', 'mAcc', 'aAcc'):
        assert result[f'Classes/{key}'] == pytest.approx(expected[key], abs=0.005001)
    assert sum(key.startswith('Classes/') for key in result) == 3
    assert {'Own/msp/AP', 'Own/energy/AP'} < set(result)
    for name in ('msp', 'energy'):
        entry = read_results(f'out/{name}/results.json')['segmentation']['Classes']
        assert entry['metrics']['mIoU'] == result['Classes/mIoU'] and entry['num_images'] == 2


def test_wrong_arguments_are_named(run: Callable) -> None:
    with pytest.raises(ValueError, match='data.py has no data set RoadAnomaly, but Own, Twin, .*, Classes'):
        run('--data-sets', 'RoadAnomaly')
    with pytest.raises(ValueError, match="unknown score 'mps'"):
        run('--scores', 'mps')
    with pytest.raises(FileNotFoundError, match='config nowhere.py'):
        run('--data', 'nowhere.py')
    Path('segmenter.py').write_text(SEGMENTER.replace("'EncoderDecoder'", "'DepthEstimator'"))
    with pytest.raises(ValueError, match="model.type must be one of EncoderDecoder, .*'DepthEstimator'"):
        run()
