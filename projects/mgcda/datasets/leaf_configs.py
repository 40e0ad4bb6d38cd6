# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterator
from typing import Any


def leaf_configs(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Configs of the data sets inside ConcatDataset, MultiDomainDataset, RepeatDataset and the like, or of itself."""
    inner = [dataset['dataset']] if dataset.get('dataset') else dataset.get('datasets')
    if not inner:
        yield dataset
    for child in inner or ():
        yield from leaf_configs(child)
