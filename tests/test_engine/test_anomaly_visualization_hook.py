# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from scipy import ndimage
from tiny_dissimilarity import HEIGHT, WIDTH, quick_runs, write_tiny_checkpoint, write_tiny_mgcda

from mgcda.engine.hooks import AnomalyVisualizationHook
from mgcda.scores import build_score
from mgcda.visualization.heat_maps import CYAN

HAS_TENSORBOARD = importlib.util.find_spec('tensorboard') is not None


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('tiny')
    write_tiny_checkpoint(write_tiny_mgcda(folder), folder / 'epoch_1.pth')
    return folder


def config(tiny: Path, work_dir: Path, **options) -> Config:
    cfg = Config.fromfile(tiny / 'tiny_mgcda.py')
    cfg.merge_from_dict({'work_dir': str(work_dir), 'log_level': 'WARNING', 'test_evaluator.mode': 'exact', **options})
    return cfg


def sheets(folder: Path) -> dict:
    return {path.name: cv2.imread(str(path)) for path in sorted(folder.rglob('vis_image/*.png'))}


class TestRuns:

    def test_sheets_of_a_test(self, tiny, tmp_path, load_tool, monkeypatch) -> None:
        monkeypatch.setenv('LOCAL_RANK', '0')
        with quick_runs():
            load_tool('tools/test.py').main([
                str(tiny / 'tiny_mgcda.py'),
                str(tiny / 'epoch_1.pth'), '--work-dir',
                str(tmp_path / 'work'), '--show-dir',
                str(tmp_path / 'shown'), '--cfg-options', 'default_hooks.visualization.interval=2',
                'test_evaluator.mode=exact'
            ])
        found = sheets(tmp_path / 'shown')
        # Every second of 3 + 2 images.
        assert list(found) == ['test_Fishyscapes_1_0.png', 'test_RoadAnomaly_0_0.png', 'test_RoadAnomaly_2_0.png']
        for sheet in found.values():
            assert sheet.shape == (HEIGHT, 2 * WIDTH, 3)
        image = cv2.imread(str(tiny / 'road_anomaly/frames/0.jpg'))
        label = cv2.imread(str(tiny / 'road_anomaly/frames/0.labels/labels_semantic.png'), cv2.IMREAD_GRAYSCALE) > 0
        panel = found['test_RoadAnomaly_0_0.png'][:, :WIDTH]
        contour = (panel == CYAN).all(-1)
        assert contour.any() and not (contour & ~label).any()
        np.testing.assert_array_equal(contour, label & ~ndimage.binary_erosion(label, np.ones((3, 3))))
        np.testing.assert_array_equal(panel[~contour], image[~contour])

    def test_sheets_of_validations_in_a_training(self, tiny, tmp_path) -> None:
        cfg = config(
            tiny, tmp_path, **{
                'default_hooks.visualization.draw': True,
                'default_hooks.visualization.interval': 3,
                'train_cfg.max_iters': 2,
                'train_cfg.val_interval': 1,
                'default_hooks.checkpoint.interval': 10
            })
        cfg.val_dataloader, cfg.val_evaluator, cfg.val_cfg = cfg.test_dataloader, cfg.test_evaluator, dict()
        with quick_runs():
            Runner.from_cfg(cfg).train()
        # The same images at each, under the iteration.
        assert list(sheets(tmp_path)) == [
            f'val_{name}_{step}.png' for name in ('Fishyscapes_0', 'RoadAnomaly_0') for step in (1, 2)
        ]

    def test_off_by_default(self, tiny, tmp_path) -> None:
        assert config(tiny, tmp_path).default_hooks.visualization == dict(type='AnomalyVisualizationHook')
        Visualizer.get_instance('hook')
        hook = AnomalyVisualizationHook()
        hook.after_test_iter(None, 0, {}, [])  # would look at its arguments
        hook.after_val_iter(None, 0, {}, [])

    @pytest.mark.skipif(HAS_TENSORBOARD, reason='TensorBoard is installed')
    def test_a_missing_tensorboard_is_named_before_the_run(self, tiny, tmp_path) -> None:
        cfg = config(tiny, tmp_path)
        cfg.visualizer.vis_backends = [dict(type='TensorboardVisBackend')]
        with quick_runs(), pytest.raises(ImportError, match='tensorboard'):
            Runner.from_cfg(cfg)

    @pytest.mark.skipif(not HAS_TENSORBOARD, reason='TensorBoard is not installed')
    def test_sheets_in_tensorboard(self, tiny, tmp_path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        cfg = config(tiny, tmp_path, load_from=str(tiny / 'epoch_1.pth'))
        cfg.visualizer.vis_backends = [dict(type='TensorboardVisBackend')]
        cfg.default_hooks.visualization.draw = True
        with quick_runs():
            Runner.from_cfg(cfg).test()
        events = EventAccumulator(str(next(tmp_path.rglob('vis_data'))))
        events.Reload()
        assert len(events.Tags()['images']) == 5 and 'test_RoadAnomaly_0' in events.Tags()['images']
        picture = cv2.imdecode(np.frombuffer(events.Images('test_RoadAnomaly_0')[0].encoded_image_string, np.uint8), 1)
        assert picture.shape == (HEIGHT, 2 * WIDTH, 3)


class TestSheets:

    @pytest.fixture
    def hook(self) -> AnomalyVisualizationHook:
        Visualizer.get_instance('hook')
        return AnomalyVisualizationHook(draw=True, max_width=20)

    def sample(self, num_scores: int, **fields) -> SegDataSample:
        scores = torch.linspace(-3, 3, 40).repeat(num_scores, 10, 1)
        sample = SegDataSample(metainfo=dict(img_path='a.png', **fields))
        return sample.set_data(dict(anomaly_scores=PixelData(data=scores))) or sample

    def test_a_sheet_for_each_score_at_a_smaller_size(self, hook) -> None:
        model = torch.nn.Module()
        model.scores, model.num_classes = dict(energy=build_score('energy'), margin=build_score('margin')), 19
        image = np.full((5, 20, 3), 100, np.uint8)  # the network's size, another than that of the scores
        sheets = hook.sheets(model, image, self.sample(2, score_names=('energy', 'margin')))
        assert list(sheets) == ['energy', 'margin']
        for sheet in sheets.values():
            assert sheet.shape == (5, 40, 3) and (sheet[:, :20] == 100).all()
            assert sheet[2, 39].sum() > sheet[2, 20].sum()
        # A margin of 0 and below is black, and so is the lower half of the energies.
        assert (sheets['margin'][:, 20:29] == 100).all() and (sheets['energy'][:, 20:29] == 100).all()

    def test_labels_that_are_classes_have_no_contour(self, hook) -> None:
        model = torch.nn.Module()
        model.scores, model.num_classes = dict(logit_margin=build_score('logit_margin')), 2
        image = np.full((10, 40, 3), 100, np.uint8)
        label = torch.zeros(1, 10, 40, dtype=torch.int64)
        label[:, 3:7, 10:30] = 1
        shown = []
        for classes in ({}, dict(label_classes=('road', 'car'))):
            sample = self.sample(1, **classes)
            sample.gt_sem_seg = PixelData(data=label)
            shown.append(hook.sheets(model, image, sample)[''][:, :20])
        assert (shown[0] != 100).any() and (shown[1] == 100).all()

    def test_wrong_options(self) -> None:
        for options in (dict(interval=0), dict(max_width=0), dict(heat_range='log')):
            with pytest.raises(ValueError, match=next(iter(options))):
                AnomalyVisualizationHook(**options)
