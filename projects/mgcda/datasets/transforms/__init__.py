# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .label_ids import LabelIdToTrainId

__all__ = ['LabelIdToTrainId']
