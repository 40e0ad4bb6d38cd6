# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from mgcda.labels import UNKNOWN_TRAIN_ID, label_id_to_train_id

_LAST_LABEL_ID = 33


@TRANSFORMS.register_module()
class LabelIdToTrainId(BaseTransform):
    """Turn Cityscapes label ids into train ids, so that ``*_gtFine_labelIds.png`` can be trained on as they are.

    Goes right after ``LoadAnnotations``. Ids without a train id, and 255 (the licence plate, -1), become 255.

    Required Keys: gt_seg_map (uint8 (H, W), label ids), seg_map_path

    Modified Keys: gt_seg_map (uint8 (H, W), train ids)

    Raises:
        ValueError: If the map holds a value that is no label id of Cityscapes.
    """

    def __init__(self) -> None:
        self.table = label_id_to_train_id()

    def transform(self, results: dict) -> dict:
        """Replaces the label map."""
        label_ids = results['gt_seg_map']
        if label_ids[label_ids != UNKNOWN_TRAIN_ID].max(initial=0) > _LAST_LABEL_ID:
            values = np.unique(label_ids)
            wrong = values[(values > _LAST_LABEL_ID) & (values != UNKNOWN_TRAIN_ID)]
            raise ValueError(f'{results.get("seg_map_path")} holds the values {wrong[:5].tolist()}, which are no label '
                             f'ids of Cityscapes (0 to {_LAST_LABEL_ID}, 255)')
        results['gt_seg_map'] = self.table[label_ids]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
