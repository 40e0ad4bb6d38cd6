# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptConfigType, OptSampleList, SampleList
from torch import Tensor

from mgcda.structures import UNCERTAINTY_KINDS, check_resampling, resize_field, resize_nearest
from mgcda.structures.dissimilarity import NUM_CHANNELS, split_channels

from ..data_preprocessor import DissimilarityDataPreProcessor
from ..decode_heads.dissimilarity_head import DissimilarityFeatures
from .anomaly_segmentor import AnomalySegmentor


@MODELS.register_module()
class DissimilaritySegmentor(AnomalySegmentor):
    """Anomaly segmentor over an image, its resynthesis, its semantic map and its uncertainty maps.

    .. code:: text

        inputs (N,10,H,W) -> split -> backbone([image; synthesis]) -> decode_head -> seg_logits (N,2,h,w)
        inputs (N, 3,H,W) -> frozen segmenter and generator -> inputs (N,10,*work_size) -> as above

    The network of SynBoost (Di Biase et al., CVPR 2021), which MGCDA trains. Image and synthesis pass the shared
    backbone (and neck) in one batch.

    Args:
        backbone, decode_head, neck, ...: As of :class:`mmseg.models.EncoderDecoder`; the backbone returns a pyramid,
            finest level first, and the head is a :class:`DissimilarityDecodeHead`.
        data_preprocessor (dict): A :class:`DissimilarityDataPreProcessor`.
        frozen (dict, optional): The frozen networks, a :class:`FrozenMaps`. They make the maps online where a sample
            has none (3 channels), and are never saved. Without them every sample needs its maps. Defaults to None.
        work_size (Tuple[int, int], optional): Size (H, W) at which samples without maps pass the network. None takes
            the size of the image. Defaults to None.
        resampling (str): How images, maps and labels are brought to that size (:mod:`mgcda.structures.resampling`):
            'smooth', or 'nearest', SynBoost's rule. Pipelines with maps have the same option in
            :class:`ResizeDissimilarityInputs`. Defaults to 'smooth'.

    Raises:
        TypeError: If the data preprocessor is of another kind.
        ValueError: If the head needs uncertainty maps that ``frozen`` does not make, or ``resampling`` is unknown.
    """

    def __init__(self,
                 backbone: ConfigType,
                 decode_head: ConfigType,
                 data_preprocessor: ConfigType = dict(type='DissimilarityDataPreProcessor'),
                 frozen: OptConfigType = None,
                 work_size: tuple[int, int] | None = None,
                 resampling: str = 'smooth',
                 **kwargs) -> None:
        super().__init__(backbone=backbone, decode_head=decode_head, data_preprocessor=data_preprocessor, **kwargs)
        if not isinstance(self.data_preprocessor, DissimilarityDataPreProcessor):
            raise TypeError('DissimilaritySegmentor needs a DissimilarityDataPreProcessor, got '
                            f'{type(self.data_preprocessor).__name__}')
        self.frozen = None if frozen is None else MODELS.build(frozen)
        needs_uncertainty = getattr(self.decode_head, 'uncertainty_encoder', None) is not None
        if needs_uncertainty and self.frozen is not None and not self.frozen.uncertainty:
            raise ValueError('the decode head weights its features by uncertainty maps, which frozen.uncertainty=False '
                             'leaves out: set both options alike')
        self.work_size = None if work_size is None else tuple(work_size)
        self.resampling = check_resampling(resampling)

    def extract_feat(self, inputs: Tensor) -> DissimilarityFeatures:
        """Features of image and synthesis from one pass of the shared backbone; ``inputs``: (N, 10, H, W)."""
        if inputs.shape[1] != NUM_CHANNELS:
            raise ValueError(f'the dissimilarity network reads {NUM_CHANNELS} channels, got {inputs.shape[1]}')
        image, synthesis, semantic, uncertainty = split_channels(inputs, self.decode_head.num_semantic_classes)
        levels = super().extract_feat(torch.cat([image, synthesis]))
        image_levels, synthesis_levels = zip(*(level.chunk(2) for level in levels))
        return DissimilarityFeatures(image_levels, synthesis_levels, semantic, uncertainty)

    def add_maps(self, inputs: Tensor) -> Tensor:
        """Complete normalised images (N, 3, H, W) with the maps of the frozen networks, at the work size.

        Each map goes from the size of the network that made it to the work size in one step, as files of maps do.
        Uncertainty maps that the frozen networks leave out are zero.
        """
        if self.frozen is None:
            raise ValueError('samples without maps need the frozen networks: set model.frozen, or give the data set '
                             'its maps_root')
        size = self.work_size or tuple(inputs.shape[-2:])
        maps = self.frozen(self.data_preprocessor.denormalise(inputs))
        maps = {kind: resize_field(kind, value, size, self.resampling) for kind, value in maps.items()}
        inputs = resize_field('img', inputs, size, self.resampling)
        synthesis = self.data_preprocessor.normalise(maps['synthesis'])
        semantic = maps['semantic'].to(inputs.dtype)
        uncertainty = [maps.get(kind, torch.zeros_like(semantic)) for kind in UNCERTAINTY_KINDS]
        return torch.cat([inputs, synthesis, semantic, *uncertainty], dim=1)

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Training losses; samples without maps get them from the frozen networks, and labels follow to that size."""
        if inputs.shape[1] != NUM_CHANNELS:
            inputs = self.add_maps(inputs)
            for sample in data_samples:
                label = resize_nearest(sample.gt_sem_seg.data, tuple(inputs.shape[-2:]))
                sample.gt_sem_seg = PixelData(data=label)  # of another size than the old one, which holds to its own
        return super().loss(inputs, data_samples)

    def predict(self, inputs: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """Predict ``anomaly_scores`` at the original image sizes; ``inputs``: (N, 10, H, W) or (N, 3, H, W)."""
        original_size = tuple(inputs.shape[-2:])
        if inputs.shape[1] != NUM_CHANNELS:
            inputs = self.add_maps(inputs)
        metas: list[dict] = [{}] * len(inputs) if data_samples is None else [s.metainfo for s in data_samples]
        size = tuple(inputs.shape[-2:])
        metas = [dict(meta, img_shape=size, pad_shape=size) for meta in metas]
        for meta in metas:
            meta.setdefault('ori_shape', original_size)
        seg_logits = self.inference(inputs, metas)
        if data_samples is None:
            seg_logits = F.interpolate(
                seg_logits, size=original_size, mode='bilinear', align_corners=self.align_corners)
        return self.postprocess_result(seg_logits, data_samples)

    def _forward(self, inputs: Tensor, data_samples: OptSampleList = None) -> Tensor:
        if inputs.shape[1] != NUM_CHANNELS:
            inputs = self.add_maps(inputs)
        return super()._forward(inputs, data_samples)
