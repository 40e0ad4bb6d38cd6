# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny_dissimilarity import HEIGHT, WIDTH, write_tiny_checkpoint, write_tiny_mgcda

from mgcda.apis import AnomalyInferencer, find_boxes, inference_job, inference_run
from mgcda.apis.result_folder import ResultFolder
from mgcda.visualization import colour_heat

ALL = ['--save', 'overlay', 'heatmap', 'scores', 'boxes']


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> Path:
    """A tiny MGCDA, and the folder ``photos`` of three photos and a video."""
    folder = tmp_path_factory.mktemp('tiny')
    write_tiny_checkpoint(write_tiny_mgcda(folder), folder / 'epoch_1.pth')
    (folder / 'photos').mkdir()
    writer = cv2.VideoWriter(str(folder / 'drive.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 5, (WIDTH, HEIGHT))
    for path in sorted((folder / 'road_anomaly/frames').glob('*.jpg')):
        shutil.copy(path, folder / 'photos')
        writer.write(cv2.imread(str(path)))
    writer.release()
    return folder


@pytest.fixture
def infer(tiny, tmp_path, load_tool):
    """``infer(INPUT, ...)`` runs the tool with output to ``infer.out``."""
    out = tmp_path / 'out'
    tool = load_tool('tools/infer.py')

    def run(source, *options, out_dir=out) -> None:
        where = [] if out_dir is None else ['--out-dir', str(out_dir)]
        tool.main([str(tiny / 'tiny_mgcda.py'), str(tiny / 'epoch_1.pth'), str(source), *where, *map(str, options)])

    run.out, run.tool = out, tool
    return run


@pytest.fixture(scope='module')
def expected(tiny) -> dict:
    """Results of the three photos, by name."""
    results = AnomalyInferencer(tiny / 'tiny_mgcda.py', str(tiny / 'epoch_1.pth'))(tiny / 'photos')['predictions']
    return {Path(result.name).stem: result for result in results}


def files(folder: Path) -> list:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def boxes(folder: Path) -> dict:
    return json.loads((folder / 'boxes.json').read_text())


class TestImages:

    def test_all_results_of_a_folder(self, infer, tiny, expected, capsys) -> None:
        threshold = float(np.median(expected['0'].anomaly_scores))
        infer(tiny / 'photos', *ALL, '--threshold', threshold, '--min-area', 4)
        kinds = dict(heatmap='png', overlay='png', scores='npy')
        assert files(infer.out) == [
            'boxes.json', *(f'{kind}/{name}.{ending}' for kind, ending in kinds.items() for name in '012'),
            'settings.json'
        ]
        content = boxes(infer.out)
        assert (content['score'], content['threshold'], content['min_area']) == ('logit_margin', threshold, 4)
        for name, result in expected.items():
            np.testing.assert_array_equal(np.load(infer.out / f'scores/{name}.npy'), result.anomaly_scores)
            entry = content['images'][name]
            assert entry['boxes'] == find_boxes(result.anomaly_scores, threshold, 4)
            assert entry['path'] == str(tiny / f'photos/{name}.jpg') and entry['width'] == WIDTH
        assert 'written to' in capsys.readouterr().out

    def test_what_is_there_is_left_out(self, infer, tiny, capsys) -> None:
        infer(tiny / 'photos', '--threshold', 0)
        (infer.out / 'overlay/1.png').unlink()
        stamps = {name: (infer.out / f'overlay/{name}.png').stat().st_mtime_ns for name in '02'}
        capsys.readouterr()
        infer(tiny / 'photos', '--threshold', 0)
        assert '2 of 3 are there already' in capsys.readouterr().out
        assert (infer.out / 'overlay/1.png').is_file() and list(boxes(infer.out)['images']) == ['0', '1', '2']
        assert stamps == {name: (infer.out / f'overlay/{name}.png').stat().st_mtime_ns for name in '02'}
        with pytest.raises(ValueError, match='results of other settings'):
            infer(tiny / 'photos', '--threshold', 1)
        infer(tiny / 'photos', '--threshold', 1, '--overwrite')
        assert boxes(infer.out)['threshold'] == 1
        assert stamps != {name: (infer.out / f'overlay/{name}.png').stat().st_mtime_ns for name in '02'}

    def test_results_of_other_weights_are_refused_and_overwritten(self, infer, tiny, tmp_path) -> None:
        weights = Path(shutil.copy(tiny / 'epoch_1.pth', tmp_path))

        def run(*options) -> None:
            where = ['--out-dir', str(infer.out)]
            infer.tool.main([str(tiny / 'tiny_mgcda.py'), str(weights), *map(str, options), *where])

        with pytest.raises(ValueError, match='no score'):
            run(tiny / 'photos', '--score', 'energy')
        with pytest.raises(ValueError, match='threshold must not be NaN'):
            run(tiny / 'photos', '--threshold', 'nan')
        assert not infer.out.exists()  # or the first working command would be one of other settings
        run(tiny / 'photos', '--threshold', 0)
        checkpoint = torch.load(weights, weights_only=False)
        checkpoint['state_dict']['decode_head.conv_seg.bias'] += 1
        torch.save(checkpoint, weights)
        with pytest.raises(ValueError, match=r'results of other settings \(sha256'):
            run(tiny / 'photos', '--threshold', 0)
        run(tiny / 'photos/1.jpg', '--threshold', 0, '--overwrite')
        assert files(infer.out) == ['boxes.json', 'overlay/1.png', 'settings.json']
        assert list(boxes(infer.out)['images']) == ['1']

    def test_results_up_to_an_interruption_stay(self, infer, tiny, monkeypatch) -> None:
        write = ResultFolder.write

        def interrupt(self, name, *args, **kwargs) -> None:
            if name == '1':
                raise KeyboardInterrupt
            write(self, name, *args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ResultFolder, 'write', interrupt)
            infer(tiny / 'photos', '--threshold', 0)
        assert list(boxes(infer.out)['images']) == ['0']
        infer(tiny / 'photos', '--threshold', 0)
        assert list(boxes(infer.out)['images']) == ['0', '1', '2']

    def test_a_pattern_keeps_the_folders_that_differ(self, infer, tiny) -> None:
        infer(f'{tiny}/*/original/*.png', '--save', 'scores', '--score-dtype', 'float16')
        assert files(infer.out / 'scores') == ['0.npy', '1.npy']
        assert np.load(infer.out / 'scores/0.npy').dtype == np.float16
        infer(f'{tiny}/[fr]*/*/1.*g', '--save', 'scores', '--score-dtype', 'float16')
        assert files(infer.out / 'scores') == [
            '0.npy', '1.npy', 'fishyscapes/labels/1.npy', 'fishyscapes/original/1.npy', 'road_anomaly/frames/1.npy'
        ]

    def test_colours_of_a_range(self, infer, tiny, expected) -> None:
        infer(tiny / 'photos/0.jpg', '--save', 'heatmap', '--heat-range', -3, 3)
        heat = np.clip((expected['0'].anomaly_scores + 3) / 6, 0, 1)
        np.testing.assert_array_equal(cv2.imread(str(infer.out / 'heatmap/0.png')), colour_heat(heat))


class TestVideos:

    def test_pictures_scores_and_boxes(self, infer, tiny, capsys) -> None:
        infer(tiny / 'drive.mp4', *ALL, '--threshold', 0, '--batch-size', 2)
        assert 'drive: 3 frames' in capsys.readouterr().out
        assert files(infer.out) == [
            'boxes.json', 'heatmap/drive.mp4', 'overlay/drive.mp4', 'scores/drive/000000.npy',
            'scores/drive/000001.npy', 'scores/drive/000002.npy', 'settings.json'
        ]
        for kind in ('overlay', 'heatmap'):
            capture = cv2.VideoCapture(str(infer.out / kind / 'drive.mp4'))
            assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (5, 3)
            assert capture.read()[1].shape == (HEIGHT, WIDTH, 3)
        images = boxes(infer.out)['images']
        assert [(entry['frame'], entry['time']) for entry in images.values()] == [(0, 0), (1, 0.2), (2, 0.4)]
        for name in images:
            assert images[name]['boxes'] == find_boxes(np.load(infer.out / f'scores/{name}.npy'), 0)
        infer(tiny / 'drive.mp4', *ALL, '--threshold', 0, '--batch-size', 2)
        assert '1 of 1 are there already' in capsys.readouterr().out

    def test_an_image_named_as_a_frame_is_refused(self, infer, tiny, tmp_path) -> None:
        shutil.copy(tiny / 'drive.mp4', tmp_path)
        (tmp_path / 'drive').mkdir()
        cv2.imwrite(str(tmp_path / 'drive/000001.png'), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        with pytest.raises(ValueError, match='000001.png and .*drive.mp4 would both be written as drive/000001'):
            infer(f'{tmp_path}/**/*[4g]', '--save', 'scores')
        assert files(infer.out / 'scores') == ['drive/000000.npy', 'drive/000001.npy']

    def test_the_first_frames(self, infer, tiny) -> None:
        infer(tiny / 'drive.mp4', '--max-frames', 2, '--save', 'scores')
        assert len(files(infer.out / 'scores/drive')) == 2

    def test_closing_the_window_ends_the_run_like_an_interruption(self, infer, tiny, monkeypatch, capsys) -> None:
        monkeypatch.setattr(inference_job, 'check_window', lambda: None)
        monkeypatch.setattr(inference_run, 'show_image',
                            lambda picture, wait_time: len(seen.append(picture) or seen) < 2)
        seen: list = []
        infer(tiny / 'drive.mp4', '--show')
        assert len(seen) == 2 and files(infer.out) == ['settings.json']
        seen.clear()
        infer(tiny / 'photos', '--show')
        assert len(seen) == 2 and files(infer.out) == ['overlay/0.png', 'overlay/1.png', 'settings.json']
        assert capsys.readouterr().out.count('ended in the window') == 2

    def test_a_webcam_is_recorded_until_it_is_interrupted(self, infer, tiny, monkeypatch, capsys) -> None:
        film = cv2.VideoCapture

        class Camera:
            """A film in the place of a camera, which gives pictures until the user presses Ctrl-C."""

            def __init__(self, number: int) -> None:
                assert number == 0
                self.film = film(str(tiny / 'drive.mp4'))
                self.isOpened, self.get, self.release = self.film.isOpened, lambda key: 0., self.film.release

            def read(self) -> tuple:
                done, frame = self.film.read()
                if not done:
                    raise KeyboardInterrupt
                return done, frame

        monkeypatch.setattr(cv2, 'VideoCapture', Camera)
        infer(0, '--threshold', 0)
        assert 'webcam0: 3 frames' in capsys.readouterr().out
        assert files(infer.out) == ['boxes.json', 'overlay/webcam0.mp4', 'settings.json']
        assert len(boxes(infer.out)['images']) == 3
        monkeypatch.undo()
        with pytest.raises(ValueError, match='has a recording webcam0 already'):
            infer(0, '--threshold', 0)


class TestThresholds:

    def test_from_a_rate_and_used_again(self, infer, tiny, expected, tmp_path, capsys) -> None:
        path = tmp_path / 'threshold.json'
        infer(tiny / 'photos', '--calibrate', tiny / 'photos', '--target-fpr', 0.1, '--threshold-file', path)
        written = json.loads(path.read_text())
        scores = np.concatenate([result.anomaly_scores for result in expected.values()], None)
        assert 0.09 < np.mean(scores > np.float32(written['threshold'])) == written['fpr'] <= 0.1
        content = boxes(infer.out)
        assert content['threshold'] == written['threshold'] and content['calibration']['target_fpr'] == 0.1
        assert f'of {scores.size} normal pixels' in capsys.readouterr().out
        infer(tiny / 'drive.mp4', '--threshold-file', path, '--save', 'boxes', out_dir=tmp_path / 'video')
        assert boxes(tmp_path / 'video')['threshold'] == written['threshold']

    def test_a_run_that_goes_on_keeps_its_calibration(self, infer, tiny, tmp_path, monkeypatch, capsys) -> None:
        options = ['--calibrate', tiny / 'photos', '--target-fpr', 0.1]
        infer(tiny / 'photos', *options)
        before = boxes(infer.out)
        (infer.out / 'overlay/1.png').unlink()
        path = tmp_path / 'threshold.json'
        with monkeypatch.context() as patch:
            patch.setattr(inference_job, 'calibrate', lambda *args: pytest.fail('calibrated anew'))
            infer(tiny / 'photos', *options)
            assert boxes(infer.out) == before and (infer.out / 'overlay/1.png').is_file()
            infer(tiny / 'photos', *options, '--threshold-file', path)  # all results are there
        assert json.loads(path.read_text())['threshold'] == before['threshold']
        assert '3 of 3 are there already' in capsys.readouterr().out
        infer(tiny / 'photos/0.jpg', '--threshold-file', path, out_dir=tmp_path / 'other')

    def test_from_a_data_set_and_from_a_pattern(self, infer, tiny, tmp_path) -> None:
        path, pattern = tmp_path / 't.json', f'{tiny}/fishyscapes/original/*.png'
        for number, data in enumerate(('Fishyscapes', pattern)):
            infer(tiny / 'photos/0.jpg', '--calibrate', data, '--threshold-file', path, out_dir=tmp_path / str(number))
            written = json.loads(path.read_text())
            assert (written['data'], written['num_images'], written['target_fpr']) == (data, 2, 0.05)


class TestErrors:
    """Before the model is built, and nothing left behind."""

    @pytest.fixture(autouse=True)
    def no_model(self, infer, monkeypatch):

        def build(*args, **kwargs):
            pytest.fail('the model was built')

        monkeypatch.setattr(inference_job, 'AnomalyInferencer', build)
        yield
        assert not infer.out.exists()

    def test_inputs(self, infer, tiny, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match='input not found: .*none.jpg'):
            infer(tmp_path / 'none.jpg')
        with pytest.raises(FileNotFoundError, match='no pattern of images'):
            infer(f'{tmp_path}/*.jpg')
        with pytest.raises(FileNotFoundError, match='no images in'):
            infer(tmp_path)
        for name, length in (('photos/0.jpg', 100), ('drive.mp4', 500)):
            cut = tmp_path / Path(name).name
            cut.write_bytes((tiny / name).read_bytes()[:length])
            with pytest.raises(ValueError, match=f'{cut.name} (is truncated|cannot be read as a video)'):
                infer(cut)
            cut.unlink()
        with pytest.raises(ValueError, match='webcam 97'):
            infer(97)
        for name in ('a.png', 'a.jpg'):
            cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
        with pytest.raises(ValueError, match='results of one name'):
            infer(f'{tmp_path}/a.*')

    def test_options(self, infer, tiny, capsys) -> None:
        image = tiny / 'photos/0.jpg'
        for options, message in ((['--save', 'boxes'], '--save boxes needs'), (['--threshold', '1', '--calibrate',
                                                                                'x'], 'comes from one of'),
                                 (['--target-fpr', '0.1'],
                                  '--target-fpr needs --calibrate'), (['--calibrate', 'x', '--target-fpr',
                                                                       '5'], 'must be between 0 and 1'),
                                 (['--heat-range',
                                   '5'], '--heat-range: heat_range must be'), (['--min-area',
                                                                                '0'], '--min-area must be positive')):
            with pytest.raises(SystemExit):
                infer(image, *options)
            assert message in capsys.readouterr().err
        with pytest.raises(SystemExit):
            infer(image, out_dir=None)
        assert '--out-dir or --show is needed' in capsys.readouterr().err

    def test_files(self, infer, tiny, tmp_path) -> None:
        arguments = SimpleNamespace(config=str(tiny / 'tiny_mgcda.py'), checkpoint=str(tiny / 'epoch_1.pth'))
        for key, name in (('config', 'none.py'), ('checkpoint', 'none.pth')):
            with pytest.raises(FileNotFoundError, match=f'{name} does not exist'):
                given = vars(SimpleNamespace(**{**vars(arguments), key: str(tmp_path / name)}))
                infer.tool.main([*given.values(), str(tiny / 'photos'), '--out-dir', str(infer.out)])
        with pytest.raises(FileNotFoundError, match='threshold file .* does not exist'):
            infer(tiny / 'photos', '--threshold-file', tmp_path / 't.json')

    def test_a_window_without_a_display(self, infer, tiny, monkeypatch) -> None:
        for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(RuntimeError, match='no window can be shown'):
            infer(tiny / 'photos', '--show')
