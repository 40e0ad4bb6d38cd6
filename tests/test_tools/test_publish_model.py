# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import hashlib
import os
from pathlib import Path

import pytest
import torch
from tiny_components import build_tiny_model, write_tiny_run


@pytest.fixture
def publish(load_tool):
    return load_tool('tools/model_converters/publish_model.py').main


@pytest.fixture
def training_checkpoint(tmp_path: Path) -> Path:
    """As a training leaves it, with everything in it that inference does not need."""
    state_dict = build_tiny_model().state_dict()
    state_dict['frozen.segmenter.weight'] = torch.ones(2)
    state_dict['discriminator.0.weight'] = torch.ones(2)
    torch.save(
        dict(
            meta=dict(
                cfg='model = dict(type="TinySegmentor")\n',
                epoch=3,
                iter=30,
                seed=0,
                dataset_meta=dict(classes=('a', 'b'))),
            state_dict=state_dict,
            optimizer=dict(state={}),
            message_hub=dict(),
            mdat=dict(weight=torch.ones(2))), tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth'


def test_leaves_weights_of_inference_and_metadata(tmp_path, training_checkpoint, publish) -> None:
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/.model-0123abcd.pth.99999999.tmp').touch()  # of one that was killed
    final = publish([str(training_checkpoint), str(tmp_path / 'out/model.pth')])

    digest = hashlib.sha256(final.read_bytes()).hexdigest()
    assert final == tmp_path / f'out/model-{digest[:8]}.pth'
    assert os.listdir(tmp_path / 'out') == [final.name]
    published = torch.load(final, weights_only=True)
    model = build_tiny_model()
    model.switch_to_deploy()
    expected = model.state_dict()
    assert set(published) == {'meta', 'state_dict'}
    assert set(published['state_dict']) == set(expected)
    assert all(torch.equal(published['state_dict'][name], value) for name, value in expected.items())
    assert published['meta']['dataset_meta'] == dict(classes=('a', 'b'))
    assert published['meta']['cfg'].startswith('model') and published['meta']['mgcda_version']
    assert 'seed' not in published['meta']


def test_same_weights_give_the_same_name(tmp_path, training_checkpoint, publish) -> None:
    first = publish([str(training_checkpoint), str(tmp_path / 'a.pth')])
    assert first.name[1:] == publish([str(training_checkpoint), str(tmp_path / 'b.pth')]).name[1:]


def test_config_replaces_the_stored_one_and_checks_the_fit(tmp_path, training_checkpoint, publish) -> None:
    config = write_tiny_run(tmp_path)
    final = publish([str(training_checkpoint), str(tmp_path / 'model.pth'), '--config', str(config)])
    assert 'TinyBackbone' in torch.load(final, weights_only=True)['meta']['cfg']

    config.write_text(config.read_text().replace('channels=4', 'channels=8'))
    with pytest.raises(
            ValueError, match=r'does not fit.*backbone\.conv\.weight \(4, 3, 3, 3\) instead of \(8, 3, 3, 3\)'):
        publish([str(training_checkpoint), str(tmp_path / 'other.pth'), '--config', str(config)])
    assert not list(tmp_path.glob('other*')) and not list(tmp_path.glob('.*'))


def test_bad_files(tmp_path, training_checkpoint, publish) -> None:
    with pytest.raises(FileNotFoundError, match='none.pth'):
        publish([str(tmp_path / 'none.pth'), str(tmp_path / 'out.pth')])
    with pytest.raises(FileNotFoundError, match='none.py'):
        publish([str(training_checkpoint), str(tmp_path / 'out.pth'), '--config', str(tmp_path / 'none.py')])
    with pytest.raises(ValueError, match='is a folder'):
        publish([str(training_checkpoint), str(tmp_path)])
    torch.save(dict(state_dict={'train_only.weight': torch.ones(1)}), tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='no weights that inference needs'):
        publish([str(tmp_path / 'empty.pth'), str(tmp_path / 'out.pth')])
    (tmp_path / 'text.pth').write_text('not a checkpoint')
    with pytest.raises(ValueError, match='text.pth is not a checkpoint'):
        publish([str(tmp_path / 'text.pth'), str(tmp_path / 'out.pth')])
    assert not list(tmp_path.glob('out*'))
