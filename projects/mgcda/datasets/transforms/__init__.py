# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .label_ids import LabelIdToTrainId
from .load_anomaly_annotations import LoadAnomalyAnnotations
from .load_dissimilarity_maps import LoadDissimilarityMaps
from .load_image import LoadImage
from .load_negative_annotations import LoadNegativeAnnotations
from .pack_dissimilarity_inputs import PackDissimilarityInputs
from .paste_objects import PasteObjects
from .resize_dissimilarity_inputs import ResizeDissimilarityInputs

__all__ = [
    'LabelIdToTrainId', 'LoadAnomalyAnnotations', 'LoadDissimilarityMaps', 'LoadImage', 'LoadNegativeAnnotations',
    'PackDissimilarityInputs', 'PasteObjects', 'ResizeDissimilarityInputs'
]
