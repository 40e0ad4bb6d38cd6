# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Reading configs: files, options that replace entries, and the data sets and pipelines inside."""
import difflib
import inspect
import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

RUNNER_KEYS = frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
# Read from the config by the runner, the tools or mmengine's Config itself.
OTHER_KEYS = frozenset({
    'activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval', 'find_unused_parameters',
    'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline'
})
# Common names of helper variables that look like keys of the runner.
HELPER_KEYS = frozenset({'train_pipeline', 'val_pipeline', 'test_pipeline'})


def read_config(config: str | os.PathLike | Config, options: dict | None = None) -> Config:
    """Read a config and merge options into it; the modules that it names in ``custom_imports`` are imported.

    Args:
        config: Config file, or a Config, which is copied.
        options: Entries that replace those of the config, by dotted keys, as ``--cfg-options`` gives them.

    Raises:
        FileNotFoundError: No such config.
        ValueError: An option that the config does not know.
    """
    if isinstance(config, Config):
        cfg = config.copy()
    elif os.path.isfile(config):
        cfg = Config.fromfile(config)
    else:
        raise FileNotFoundError(f'config {config} does not exist')
    if options:
        check_options(cfg, options)
        cfg.merge_from_dict(options)
        if cfg.get('custom_imports'):
            import_modules_from_strings(**cfg.custom_imports)
    return cfg


def check_keys(cfg: Config, filename: str) -> None:
    """Refuse top-level keys that look like a misspelt key of the runner; other names are helper variables."""
    targets = (RUNNER_KEYS | OTHER_KEYS) - {'tta_pipeline'}
    for key in sorted(set(cfg.keys()) - RUNNER_KEYS - OTHER_KEYS - HELPER_KEYS):
        close = difflib.get_close_matches(key.lower(), targets, n=3, cutoff=0.85)
        if close:
            raise ValueError(f'{filename}: unknown config key {key!r}, did you mean {" or ".join(map(repr, close))}? '
                             'Rename it if it is a variable of your own')


def check_options(cfg: Config, options: dict) -> None:
    """Refuse ``--cfg-options`` that neither replace an entry of the config nor are known to the runner."""
    known = set(cfg.keys()) | RUNNER_KEYS | OTHER_KEYS
    for key in options:
        top = key.split('.')[0]
        if top not in known:
            close = difflib.get_close_matches(top, known, n=3, cutoff=0.6)
            hint = f', did you mean {" or ".join(map(repr, close))}?' if close else ''
            raise ValueError(f'--cfg-options {key}: the config has no key {top!r}{hint}')


def leaf_configs(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Configs of the data sets inside ConcatDataset, MultiDomainDataset, RepeatDataset and the like, or of itself."""
    inner = [dataset['dataset']] if dataset.get('dataset') else dataset.get('datasets')
    if not inner:
        yield dataset
    for child in inner or ():
        yield from leaf_configs(child)


def find_pipeline(dataset: dict[str, Any]) -> list[dict] | None:
    """Pipeline of the config of a data set, or of the first one inside."""
    return next((leaf['pipeline'] for leaf in leaf_configs(dataset) if leaf.get('pipeline') is not None), None)
