# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""model-index.yml and the metafiles, in OpenMMLab's form: every config of a method is in one of them, as it is."""
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
#: Folders whose configs are of no method: parts, toys, and lists of runs.
NO_METHODS = ('configs/_base_', 'configs/toy', 'configs/studies')
STUDY = 'configs/studies/cityscapes256'
COLLECTION_KEYS = {'Name', 'Metadata', 'Paper', 'README', 'Code', 'Frameworks'}
MODEL_KEYS = {'Name', 'In Collection', 'Config', 'Metadata'}
#: Of trained weights that are offered, and of what was measured.
OPTIONAL_MODEL_KEYS = {'Results', 'Weights'}
METADATA_KEYS = {'Training Data', 'Architecture', 'Batch Size', 'Epochs', 'Iterations'}


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


FILES = read(ROOT / 'model-index.yml')['Import']
MODELS = [(model, file) for file in FILES for model in read(ROOT / file)['Models']]
COLLECTIONS = [collection for file in FILES for collection in read(ROOT / file).get('Collections', [])]


def configs_of_methods() -> list[str]:
    paths = [path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.py')]
    return [
        path.as_posix() for path in paths
        if path.parent.as_posix() == STUDY or not path.as_posix().startswith(tuple(f'{name}/' for name in NO_METHODS))
    ]


def test_all_metafiles_are_imported() -> None:
    present = [path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('metafile.y*ml')]
    assert sorted(FILES) == sorted(present) and len(present) > 10


def test_every_config_of_a_method_is_listed_once_under_a_name_of_its_own() -> None:
    assert sorted(model['Config'] for model, _ in MODELS) == sorted(configs_of_methods())
    assert max(Counter(model['Name'] for model, _ in MODELS).values()) == 1
    # Beside its config; the flagship's metafile is that of its variants.
    assert all(Path(model['Config']).parent in (Path(file).parent, Path('configs')) for model, file in MODELS)


def test_collections() -> None:
    names = [collection['Name'] for collection in COLLECTIONS]
    assert len(names) == len(set(names)) and set(names) == {model['In Collection'] for model, _ in MODELS}
    for collection in COLLECTIONS:
        assert set(collection) == COLLECTION_KEYS, collection['Name']
        assert set(collection['Metadata']) <= METADATA_KEYS
        assert set(collection['Paper']) == {'Title', 'URL'} and collection['Paper']['URL'].startswith('https://')
        assert (ROOT / collection['README']).is_file() and (ROOT / collection['Code']).is_file()


def training_of(config: str) -> dict[str, int]:
    """Batch size and length of a config's training, by their keys in a metafile; nothing where it is for testing."""
    cfg = Config.fromfile(ROOT / config, format_python_code=False)
    if not cfg.get('train_dataloader'):
        return {}
    units = {'max_epochs': 'Epochs', 'max_iters': 'Iterations'}
    lengths = {unit: cfg.train_cfg[key] for key, unit in units.items() if cfg.train_cfg.get(key)}
    return {'Batch Size': cfg.train_dataloader.batch_size, **lengths}


@pytest.mark.parametrize('file', FILES)
def test_models(file: str) -> None:
    """Required keys, and the batch and the length of the training of each config; a study sets its own."""
    for model in read(ROOT / file)['Models']:
        name = model['Name']
        assert MODEL_KEYS <= set(model) <= MODEL_KEYS | OPTIONAL_MODEL_KEYS, name
        metadata = model['Metadata']
        assert {'Training Data', 'Architecture'} <= set(metadata) <= METADATA_KEYS and metadata['Architecture'], name
        training = {} if Path(file).parent.as_posix() == STUDY else training_of(model['Config'])
        training.update({key: metadata[key] for key in ('Training Data', 'Architecture')})
        assert metadata == training, name
        for result in model.get('Results', []):
            assert set(result) == {'Task', 'Dataset', 'Metrics'} and result['Metrics'], name
            assert result['Task'] in ('Anomaly Segmentation', 'Semantic Segmentation'), name
