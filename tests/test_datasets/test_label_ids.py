# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from mgcda.datasets.transforms import LabelIdToTrainId


def test_label_ids_become_train_ids():
    label_ids = np.array([[7, 8, 11, 33], [0, 4, 29, 255]], np.uint8)
    out = LabelIdToTrainId()(dict(gt_seg_map=label_ids, seg_map_path='x.png'))['gt_seg_map']
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, [[0, 1, 2, 18], [255, 255, 255, 255]])


def test_a_value_that_is_no_label_id_is_named_with_its_file():
    with pytest.raises(ValueError, match=r'x\.png.*\[34, 100\]'):
        LabelIdToTrainId()(dict(gt_seg_map=np.array([[7, 34, 100]], np.uint8), seg_map_path='x.png'))
    with pytest.raises(ValueError, match=r'x\.png.*\[24001\]'):  # instance ids
        LabelIdToTrainId()(dict(gt_seg_map=np.array([[7, 24001, 255]], np.uint16), seg_map_path='x.png'))
