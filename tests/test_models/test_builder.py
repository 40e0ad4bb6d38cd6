# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest
import torch
from tiny_components import build_tiny_model, write_tiny_run

from mgcda.models.builder import build_model, load_network


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_tiny_run(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """As a parallel training leaves it, with what only training needs."""
    weights = {f'module.{key}': value for key, value in build_tiny_model().state_dict().items()}
    torch.save(dict(meta=dict(dataset_meta=dict(classes=('a', 'b'))), state_dict=weights), tmp_path / 'epoch_1.pth')
    return tmp_path / 'epoch_1.pth'


def save(path: Path, checkpoint: Path, **weights: torch.Tensor) -> str:
    """A copy of a checkpoint with other weights added; its path."""
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict'].update({key.replace('__', '.'): value for key, value in weights.items()})
    torch.save(content, path)
    return str(path)


def test_models_are_ready_for_inference(config, checkpoint) -> None:
    model, expected = build_model(config, str(checkpoint)), build_tiny_model()
    expected.switch_to_deploy()
    assert not model.training and model.dataset_meta == dict(classes=('a', 'b'))
    assert set(model.state_dict()) == set(expected.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in expected.state_dict().items())
    assert build_model(config).dataset_meta == {}


def test_only_named_networks_take_checkpoints_with_more_weights(tmp_path, config, checkpoint) -> None:
    path = save(tmp_path / 'more.pth', checkpoint, neck__weight=torch.ones(2))
    with pytest.raises(ValueError, match=r'^\S+more\.pth does not fit the model: .*; 1 not in the model: neck\.weight'):
        build_model(config, path)
    entry = dict(config=str(config), checkpoint=path)
    assert torch.equal(load_network(entry, 'frozen').backbone.conv.weight, build_tiny_model().backbone.conv.weight)


def test_published_networks_need_nothing_of_training(tmp_path, config, checkpoint) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict'] = {key: value for key, value in content['state_dict'].items() if 'train_only' not in key}
    torch.save(content, tmp_path / 'published.pth')
    network = load_network(dict(config=str(config), checkpoint=str(tmp_path / 'published.pth')), 'frozen')
    assert not hasattr(network, 'train_only')


def test_errors_name_the_file_in_one_wording(tmp_path, config, checkpoint) -> None:
    """The same of a model and of a network that a config names, which also name its entry."""
    (tmp_path / 'text.pth').write_text('text')
    torch.save([1], tmp_path / 'list.pth')
    torch.save(dict(state_dict=[1], epoch=3), tmp_path / 'empty.pth')
    wide = save(tmp_path / 'wide.pth', checkpoint, module__backbone__conv__weight=torch.ones(8, 3, 3, 3))
    (tmp_path / 'none.py').write_text('scores = []')
    for path, file, error, words in (
        (config, 'no.pth', FileNotFoundError, 'checkpoint no.pth does not exist'),
        (config, tmp_path / 'text.pth', ValueError,
         r'\S+text.pth is not a checkpoint, or is damaged'), (config, tmp_path / 'list.pth', ValueError,
                                                              r'\S+list.pth is not a checkpoint: it holds no weights'),
        (config, tmp_path / 'empty.pth', ValueError, r'\S+empty.pth is not a checkpoint: .* are state_dict, epoch'),
        (config, wide, ValueError, r'\S+wide.pth does not fit the model: .* 1 of another shape: backbone.conv.weight'),
        (tmp_path / 'none.py', None, ValueError, r'\S+none.py has no model$'), ('no.py', None, FileNotFoundError,
                                                                                'config no.py does not exist')):
        checkpoint = None if file is None else str(file)
        with pytest.raises(error, match=f'^{words}'):
            build_model(path, checkpoint)
        with pytest.raises(error, match=f'^frozen: {words}'):
            load_network(dict(config=str(path), checkpoint=checkpoint), 'frozen')
