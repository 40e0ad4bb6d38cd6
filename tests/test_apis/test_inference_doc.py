# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What docs/inference.md shows runs as printed, with a tiny model in the place of the flagship."""
import shutil
from pathlib import Path

import cv2
import pytest
from documents import ROOT, blocks, commands, is_config, tool_call
from mmengine.config import Config

PAGE = ROOT / 'docs/inference.md'


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch) -> Path:
    """A folder with what the page names: config and checkpoint, a street, photos, other photos, a video."""
    for name in ('configs', 'checkpoints', 'photos', 'normal_streets', 'drive/a'):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / 'configs/mgcda_cityscapes.py').write_text(
        f"_base_ = ['{tiny}/tiny_mgcda.py']\n"
        "fs_lost_and_found = dict(_base_.test_dataloader.dataset.datasets[1], dataset_name='FS_LostAndFound')\n")
    shutil.copy(tiny / 'epoch_1.pth', tmp_path / 'checkpoints/mgcda.pth')
    frames = sorted((tiny / 'road_anomaly/frames').glob('*.jpg'))
    shutil.copy(frames[0], tmp_path / 'street.jpg')
    for frame in frames:
        shutil.copy(frame, tmp_path / 'photos')
    for name in ('normal_streets/0.png', 'drive/a/0.png'):
        cv2.imwrite(str(tmp_path / name), cv2.imread(str(frames[0])))
    image = cv2.imread(str(frames[0]))
    writer = cv2.VideoWriter(str(tmp_path / 'drive.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10, image.shape[1::-1])
    for frame in frames:
        writer.write(cv2.imread(str(frame)))
    writer.release()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_blocks(folder, capsys) -> None:
    programs = [block for block in blocks(PAGE, 'python') if not is_config(block)]
    assert len(programs) == 4
    namespace: dict = {}
    for block in programs:
        exec(compile(block, str(PAGE), 'exec'), namespace)
    out = capsys.readouterr().out
    assert '(32, 48) float32' in out
    overlays = folder / 'work_dirs/photos_python/overlay'
    assert sorted(path.name for path in overlays.iterdir()) == ['0.png', '1.png', '2.png']
    assert namespace['found'].fpr <= 0.01


def test_configs_load(tmp_path) -> None:
    configs = [block for block in blocks(PAGE, 'python') if is_config(block)]
    assert configs
    for block in configs:
        (tmp_path / 'leaf.py').write_text(block.replace("'./", f"'{ROOT}/configs/"))
        cfg = Config.fromfile(tmp_path / 'leaf.py')
        assert [backend.type for backend in cfg.visualizer.vis_backends] == ['LocalVisBackend', 'TensorboardVisBackend']
        assert cfg.default_hooks.visualization == dict(type='AnomalyVisualizationHook', draw=True, interval=20)


def test_commands_of_the_tool(folder, load_tool, capsys) -> None:
    lines = [tool_call(command) for command in commands(PAGE)]
    calls = [arguments for tool, arguments in lines if tool == 'tools/infer.py' and '--show' not in arguments]
    assert len(calls) > 6
    for number, arguments in enumerate(calls):  # folders that the page writes to twice are told apart
        place = arguments.index('--out-dir') + 1
        arguments[place] += str(number)
        load_tool('tools/infer.py').main([*arguments, '--device', 'cpu'])
    assert (folder / 'work_dirs/threshold.json').is_file()
    assert len(list((folder / 'work_dirs').glob('drive*/overlay/drive.mp4'))) == 2
