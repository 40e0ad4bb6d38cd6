# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Sequence

import numpy as np
from mmseg.registry import DATASETS

from .coco_objects import CocoObjects
from .randomness import SampleKey, keyed_random
from .transforms.paste_objects import PasteObjects
from .void_class import VoidClassDataset


@DATASETS.register_module()
class AnomalyMixDataset(VoidClassDataset):
    """Cityscapes with objects of COCO pasted into it as anomalies (training domain 1); void is ignored.

    The pipeline loads image and label and then pastes with :class:`PasteObjects`, whose options say how many objects,
    how large and where. Composites are made on the fly, so they have no offline maps: for those write composites with
    ``tools/dataset_converters/make_anomaly_mix.py`` and read them with :class:`CompositeDataset`.

    Args:
        objects: arguments of :class:`CocoObjects`: which objects.
        ignore_ids: label ids that are ignored; by default every id without a train id.
        targets: as of :class:`VoidClassDataset`.

    Raises:
        ValueError: a maps_root, a pipeline without PasteObjects; as :class:`CocoObjects` and
            :class:`VoidClassDataset`.
    """

    DEFAULT_NAME = 'AnomalyMix'
    DEFAULT_DOMAIN = 1

    def __init__(self, objects: dict, ignore_ids: Sequence[int] | None = None, **kwargs) -> None:
        if kwargs.get('maps_root') is not None:
            raise ValueError('AnomalyMixDataset pastes on the fly and can have no maps_root: write composites with '
                             'tools/dataset_converters/make_anomaly_mix.py and read them with CompositeDataset')
        if kwargs.pop('anomaly_ids', ()):
            raise ValueError('AnomalyMixDataset takes no anomaly_ids: its anomalies are the pasted objects')
        self.object_args = dict(objects)
        self.objects: CocoObjects | None = None
        super().__init__(anomaly_ids=(), ignore_ids=ignore_ids, **kwargs)
        if not any(isinstance(step, PasteObjects) for step in self.pipeline.transforms):
            raise ValueError('the pipeline of AnomalyMixDataset must contain PasteObjects after its loading steps')

    def full_init(self) -> None:
        """Pair the files and index the objects."""
        if not self._fully_initialized:
            self.objects = CocoObjects(**self.object_args)
        super().full_init()

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline on a sample that knows the objects."""
        return self.pipeline(self._info_with_objects(idx))

    def _info_with_objects(self, idx: int) -> dict:
        return dict(self.get_data_info(idx), objects=self.objects, anomaly_target=self.anomaly_target)

    def composite(self, key: SampleKey) -> tuple[np.ndarray, np.ndarray]:
        """A composite as the first part of the pipeline, up to the pasting, makes it.

        Returns:
            Image BGR uint8 (H, W, 3), target uint8 (H, W).
        """
        with keyed_random(SampleKey.of(key)):
            results = self._info_with_objects(int(key))
            for step in self.pipeline.transforms:
                results = step(results)
                if isinstance(step, PasteObjects):
                    break
        return results['img'], results['gt_seg_map']
