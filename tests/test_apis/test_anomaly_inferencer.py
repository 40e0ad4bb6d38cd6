# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from tiny_dissimilarity import HEIGHT, ROOT, WIDTH, quick_runs
from tiny_systems import SYSTEMS, write_tiny_systems

from mgcda.apis import AnomalyInferencer, anomaly_inferencer, inference_run, init_model, result_folder
from mgcda.apis.result_folder import ResultFolder
from mgcda.scores import entropy, msp


@pytest.fixture(scope='module')
def inferencer(tiny) -> AnomalyInferencer:
    return AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'))


@pytest.fixture
def sharp(entropy_config) -> AnomalyInferencer:
    """Entropy and MSP of a toy segmenter whose random predictions differ from pixel to pixel."""
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match='random'):
        inferencer = AnomalyInferencer(
            entropy_config, cfg_options=dict(model=dict(score=None, scores=['entropy', 'msp'])))
    torch.nn.init.normal_(inferencer.model.decode_head.conv_seg.weight)
    return inferencer


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class TestPredictions:

    def test_scores_and_segmentation_of_mgcda(self, inferencer, tiny) -> None:
        path = tiny / 'road_anomaly/frames/1.jpg'
        result = inferencer(str(path))['predictions'][0]
        assert result.name == str(path) and result.boxes is None
        scores, segmentation = result.anomaly_scores, result.segmentation
        assert scores.shape == (HEIGHT, WIDTH) and scores.dtype == np.float32 and scores.std() > 0
        assert segmentation.dtype == np.uint8 and segmentation.max() < 19 and inferencer.num_classes == 19
        pixels = torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1)[None].float()
        frozen = inferencer.model.frozen
        expected = frozen.segmenter.predict((pixels.flip(1) - frozen.mean) / frozen.std)
        np.testing.assert_array_equal(segmentation, expected[0].pred_sem_seg.data[0].numpy())

    def test_scores_are_those_of_a_test_run(self, tiny, tmp_path) -> None:
        cfg = Config.fromfile(tiny / 'tiny_mgcda.py')
        cfg.load_from, cfg.work_dir = str(tiny / 'epoch_1.pth'), str(tmp_path)
        cfg.test_evaluator.update(mode='exact', output_dir=str(tmp_path / 'maps'), keep_results=True)
        cfg.log_level = 'WARNING'
        with quick_runs():
            Runner.from_cfg(cfg).test()
        # A folder: labels lie in folders beside the images, and are no images of it.
        predictions = AnomalyInferencer(cfg, str(tiny / 'epoch_1.pth'))(tiny / 'road_anomaly/frames')['predictions']
        assert [Path(result.name).name for result in predictions] == ['0.jpg', '1.jpg', '2.jpg']
        for result in predictions:
            expected = np.load(tmp_path / f'maps/RoadAnomaly/{Path(result.name).stem}.npy')
            np.testing.assert_array_equal(result.anomaly_scores, expected)

    def test_files_arrays_and_batches_of_several_sizes_agree(self, inferencer, tmp_path) -> None:
        images = [noise(HEIGHT, WIDTH, 0), noise(HEIGHT, WIDTH, 1), noise(HEIGHT, WIDTH, 2), noise(40, 56, 3)]
        paths = [str(tmp_path / f'{index}.png') for index in range(len(images))]
        for path, image in zip(paths, images):
            cv2.imwrite(path, image)
        sizes = [len(batch) for batch in inferencer.preprocess(paths, batch_size=2)]
        assert sizes == [2, 1, 1]
        one_by_one = inferencer(paths)['predictions']
        batched = inferencer(images, batch_size=3)['predictions']
        assert [result.name for result in batched] == ['00000000', '00000001', '00000002', '00000003']
        for single, together, image in zip(one_by_one, batched, images):
            assert single.anomaly_scores.shape == image.shape[:2]
            np.testing.assert_allclose(together.anomaly_scores, single.anomaly_scores, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(together.segmentation, single.segmentation)
        streamed = list(inferencer.stream(iter(images), batch_size=3))
        for (image, result), together, original in zip(streamed, batched, images):
            np.testing.assert_array_equal(image, original)
            np.testing.assert_array_equal(result.anomaly_scores, together.anomaly_scores)

    def test_scores_of_a_pipeline_that_resizes_come_at_the_size_of_the_image(self, sharp) -> None:
        image = noise(50, 90)
        result = sharp(image)['predictions'][0]
        assert result.anomaly_scores.shape == result.segmentation.shape == (50, 90)
        assert np.unique(result.segmentation).size > 1 and result.segmentation.max() < 19

    def test_one_of_several_scores(self, sharp) -> None:
        image = noise(50, 90)
        sample = sharp(image, return_datasamples=True)['predictions'][0]
        assert isinstance(sample, SegDataSample)
        logits = sample.seg_logits.data[None]
        assert sharp.score_names == ('entropy', 'msp') and sharp.score_name == 'entropy'
        np.testing.assert_array_equal(sharp(image)['predictions'][0].anomaly_scores, entropy(logits)[0].numpy())
        sharp.score_name = 'msp'
        np.testing.assert_array_equal(sharp(image)['predictions'][0].anomaly_scores, msp(logits)[0].numpy())

    def test_half_precision_is_close(self, inferencer, tiny) -> None:
        half = AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'), device='cpu', amp=True)
        image = noise(HEIGHT, WIDTH)
        full, result = (run(image)['predictions'][0].anomaly_scores for run in (inferencer, half))
        assert result.dtype == np.float32 and not np.array_equal(full, result)
        assert np.corrcoef(full.ravel(), result.ravel())[0, 1] > 0.9

    def test_every_system_that_trains_with_outliers_predicts(self, tmp_path_factory) -> None:
        folder = write_tiny_systems(tmp_path_factory.mktemp('systems'))
        assert len(SYSTEMS) > 5
        for name in SYSTEMS:
            with pytest.warns(UserWarning, match='random'):
                result = AnomalyInferencer(folder / f'{name}.py')(noise(HEIGHT, WIDTH))['predictions'][0]
            assert result.anomaly_scores.shape == result.segmentation.shape == (HEIGHT, WIDTH), name
            assert result.segmentation.max() < 19, name


class TestResults:

    def test_boxes_and_files(self, inferencer, tiny, tmp_path) -> None:
        folder, out = tiny / 'road_anomaly/frames', tmp_path / 'out'
        plain = inferencer(folder)['predictions']
        threshold = float(np.median(plain[0].anomaly_scores))
        output = inferencer(
            folder,
            threshold=threshold,
            min_area=3,
            return_vis=True,
            out_dir=out,
            save=('overlay', 'heatmap', 'scores', 'boxes'))
        content = json.loads((out / 'boxes.json').read_text())
        assert content['threshold'] == threshold and content['score'] == 'logit_margin'
        assert list(content['images']) == ['0', '1', '2']
        for result, overlay in zip(output['predictions'], output['visualization']):
            stem = Path(result.name).stem
            entry = content['images'][stem]
            assert (entry['width'], entry['height']) == (WIDTH, HEIGHT) and entry['boxes'] == result.boxes
            np.testing.assert_array_equal(np.load(out / f'scores/{stem}.npy'), result.anomaly_scores)
            np.testing.assert_array_equal(cv2.imread(str(out / f'overlay/{stem}.png'))[..., ::-1], overlay)
            assert cv2.imread(str(out / f'heatmap/{stem}.png')).shape == (HEIGHT, WIDTH, 3)
        assert output['predictions'][0].boxes and min(box['area'] for box in output['predictions'][0].boxes) >= 3

    def test_a_later_call_adds_to_the_boxes(self, inferencer, tiny, tmp_path) -> None:
        frames = tiny / 'road_anomaly/frames'
        inferencer(frames / '0.jpg', threshold=0, out_dir=tmp_path, save=['boxes'])
        inferencer(frames / '1.jpg', threshold=0, out_dir=tmp_path, save=['boxes'])
        assert list(json.loads((tmp_path / 'boxes.json').read_text())['images']) == ['0', '1']

    def test_boxes_of_other_settings_are_not_mixed(self, inferencer, tiny, tmp_path) -> None:
        frames = tiny / 'road_anomaly/frames'
        inferencer(frames / '0.jpg', threshold=np.float32(0.1), min_area=np.int64(2), out_dir=tmp_path, save=['boxes'])
        before = (tmp_path / 'boxes.json').read_bytes()
        assert json.loads(before)['threshold'] == float(np.float32(0.1))
        with pytest.raises(ValueError, match=r'holds boxes of other settings \(threshold\)'):
            inferencer(frames / '1.jpg', threshold=0.2, min_area=2, out_dir=tmp_path, save=['boxes'])
        assert (tmp_path / 'boxes.json').read_bytes() == before

    def test_processes_that_write_to_one_folder_keep_each_other_s_boxes(self, inferencer, tmp_path) -> None:
        result = inferencer(noise(HEIGHT, WIDTH), threshold=0)['predictions'][0]
        folders = [ResultFolder(tmp_path, ['boxes']) for _ in range(2)]
        for number, folder in enumerate(folders):
            folder.begin(dict(threshold=0))
            folder.write(str(number), {}, result)
        for folder in folders:
            folder.write_boxes()
        assert list(json.loads((tmp_path / 'boxes.json').read_text())['images']) == ['0', '1']

    def test_boxes_are_written_from_time_to_time(self, inferencer, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(result_folder, 'WRITE_EVERY', 0)
        result = inferencer(noise(HEIGHT, WIDTH), threshold=0)['predictions'][0]
        folder = ResultFolder(tmp_path, ['boxes'])
        folder.begin(dict(threshold=0))
        folder.write('0', {}, result)
        assert list(json.loads((tmp_path / 'boxes.json').read_text())['images']) == ['0']

    def test_boxes_before_an_error_stay(self, inferencer, tiny, tmp_path) -> None:
        images = [tiny / 'road_anomaly/frames/0.jpg', tmp_path / 'none.png']
        with pytest.raises(FileNotFoundError, match='none.png'):
            inferencer(images, threshold=0, out_dir=tmp_path, save=['boxes'])
        assert list(json.loads((tmp_path / 'boxes.json').read_text())['images']) == ['0']

    def test_closing_the_window_ends_the_call(self, inferencer, monkeypatch) -> None:
        monkeypatch.setattr(anomaly_inferencer, 'check_window', lambda: None)
        monkeypatch.setattr(inference_run, 'show_image', lambda *args: len(seen.append(args) or seen) < 2)
        seen: list = []
        output = inferencer([noise(HEIGHT, WIDTH)] * 3, show=True, return_vis=True)
        assert len(seen) == len(output['predictions']) == len(output['visualization']) == 2

    def test_boxes_on_the_road_alone(self, inferencer) -> None:
        image = noise(HEIGHT, WIDTH)
        both = [inferencer(image, threshold=-1e3, on_road=on_road)['predictions'][0] for on_road in (False, True)]
        assert len(both[0].boxes) == 1  # all pixels
        assert len(both[1].boxes) == int((both[1].segmentation == 0).any())

    def test_progress(self, tiny, capsys) -> None:
        shown = AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'), show_progress=True)
        shown([noise(HEIGHT, WIDTH)] * 2)
        assert '2/2' in capsys.readouterr().out


class TestErrors:

    def test_models(self, tiny, entropy_config, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match='none.py does not exist'):
            AnomalyInferencer(tmp_path / 'none.py')
        with pytest.raises(ValueError, match='entropy.py has no pipeline in test_dataloader.dataset'):
            AnomalyInferencer(entropy_config, cfg_options=dict(test_dataloader=None))
        with pytest.raises(ValueError, match='EncoderDecoder is no anomaly segmentor'):
            init_model(str(ROOT / 'configs/toy/segmenter.py'))
        with pytest.raises(ValueError, match='epoch_1.pth does not fit the model'):
            AnomalyInferencer(entropy_config, str(tiny / 'epoch_1.pth'))
        with pytest.warns(UserWarning), pytest.raises(ValueError, match="no score 'energy', but entropy"):
            AnomalyInferencer(entropy_config, score='energy')
        with pytest.raises(ValueError, match='heat_range'):
            AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'), heat_range=(1, 0))

    def test_images(self, inferencer, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match='none.png'):
            inferencer(str(tmp_path / 'none.png'))
        cv2.imwrite(str(tmp_path / 'cut.png'), noise(20, 20))
        content = (tmp_path / 'cut.png').read_bytes()
        (tmp_path / 'cut.png').write_bytes(content[:len(content) // 2])
        with pytest.raises(ValueError, match='cut.png is a truncated PNG'):
            inferencer(str(tmp_path / 'cut.png'))
        (tmp_path / 'empty').mkdir()
        with pytest.raises(FileNotFoundError, match='no images in .*empty'):
            inferencer(tmp_path / 'empty')
        with pytest.raises(FileNotFoundError, match='list of inputs is empty'):
            inferencer([])
        for array in (noise(8, 8)[..., 0], noise(8, 8) / 255, np.zeros((0, 8, 3), np.uint8)):
            with pytest.raises(ValueError, match='must be BGR uint8'):
                inferencer(array)
        with pytest.raises(TypeError, match='a file or an array, got int'):
            inferencer([3])

    def test_options(self, inferencer, tiny, tmp_path) -> None:
        image = tiny / 'road_anomaly/frames/0.jpg'
        with pytest.raises(ValueError, match="save='boxes' needs a threshold"):
            inferencer(image, out_dir=tmp_path, save=['boxes'])
        with pytest.raises(ValueError, match='save must name some of overlay'):
            inferencer(image, out_dir=tmp_path, save=['masks'])
        with pytest.raises(ValueError, match='min_area must be at least 1'):
            inferencer(image, min_area=0)
        with pytest.raises(ValueError, match='batch_size must be at least 1'):
            inferencer(image, batch_size=0)
        with pytest.raises(ValueError, match='threshold must not be NaN'):
            inferencer(image, threshold=float('nan'))
        with pytest.raises(ValueError, match='would both be written as 0'):
            inferencer([image, tiny / 'fishyscapes/original/0.png'], out_dir=tmp_path)
        assert not list(tmp_path.iterdir())  # nothing was computed
        with pytest.raises(RuntimeError, match='no window can be shown'):
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv('DISPLAY', raising=False)
                patch.delenv('WAYLAND_DISPLAY', raising=False)
                inferencer(image, show=True)

    def test_scores_that_are_not_numbers(self, tiny) -> None:
        broken = AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'))
        broken.model.decode_head.conv_seg.bias.data.fill_(float('nan'))
        with pytest.raises(ValueError, match='00000000: the model gives scores that are NaN'):
            broken(noise(HEIGHT, WIDTH))
