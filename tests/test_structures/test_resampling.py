# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Image, labels and maps lie on each other after resizing, whether maps are files or made online."""

import numpy as np
import pytest
import tiny_dissimilarity  # noqa: F401
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from PIL import Image

from mgcda.datasets import PackDissimilarityInputs, ResizeDissimilarityInputs
from mgcda.structures import MAP_KINDS, resize_field, resize_images, resize_nearest

SIDE = 16
#: Side of the image, at ratios 4, 2.8125, 5 and 2 -> distance of the nearest centres, in pixels of the image, at most.
DISTANCES = {64: 0.5, 45: 0.5, 80: 0.0, 32: 0.5}
CLASSES, SMOOTH = ('gt_seg_map', 'semantic'), ('img', 'synthesis', 'entropy', 'perceptual', 'distance')
Fields = dict[str, np.ndarray]


class KnownMaps(torch.nn.Module):
    """Frozen networks that always make these maps."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self.fields = fields

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = {kind: torch.from_numpy(np.atleast_3d(self.fields[kind])).permute(2, 0, 1)[None] for kind in MAP_KINDS}
        scales = dict(synthesis=1, entropy=255, perceptual=255, distance=255)
        return {kind: value if kind == 'semantic' else value / scales[kind] for kind, value in maps.items()}


def from_files(fields: Fields, resampling: str) -> Fields:
    results = dict(fields, seg_fields=['gt_seg_map', *MAP_KINDS], img_path='a.png')
    packed = PackDissimilarityInputs()(ResizeDissimilarityInputs((SIDE, SIDE), resampling)(results))
    planes = packed['inputs'][[0, 3, 6, 7, 8, 9]].double().numpy()
    return dict(zip(('img', *MAP_KINDS), planes), gt_seg_map=packed['data_samples'].gt_sem_seg.data[0].numpy())


def online(fields: Fields, resampling: str) -> Fields:
    init_default_scope('mmseg')
    model = MODELS.build(
        ConfigDict(
            type='DissimilaritySegmentor',
            work_size=(SIDE, SIDE),
            resampling=resampling,
            backbone=dict(type='TinyPyramid', channels=(4, 8)),
            decode_head=dict(
                type='DissimilarityDecodeHead',
                in_channels=(4, 8),
                feature_strides=(1, 2),
                fusion_channels=(6, 8),
                semantic_channels=(3, 4),
                decoder_channels=(5, 6),
                spade_channels=4)))
    model.frozen = KnownMaps(fields)
    sample = SegDataSample()
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(fields['gt_seg_map'])[None].long())
    image = torch.from_numpy(fields['img']).permute(2, 0, 1)
    prepared = model.data_preprocessor(dict(inputs=[image]))['inputs']
    inputs = model.add_maps(prepared)
    model.decode_head.loss = lambda *args: {}  # positions are no targets
    model.loss(prepared, [sample])
    pictures = [model.data_preprocessor.denormalise(inputs[:, start:start + 3])[:, :1] for start in (0, 3)]
    planes = torch.cat([*pictures, inputs[:, 6:7], inputs[:, 7:] * 255], 1)[0].double().numpy()
    return dict(zip(('img', *MAP_KINDS), planes), gt_seg_map=sample.gt_sem_seg.data[0].numpy())


WAYS = dict(files=from_files, online=online)


def ramp(side: int, axis: int) -> np.ndarray:
    """(side, side) uint8, growing along an axis from 0 to 256; constant along the other."""
    values = np.round((np.arange(side) + 0.5) * 256 / side).astype(np.uint8)
    return np.broadcast_to(values[:, None] if axis == 0 else values, (side, side)).copy()


def colours(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, 2)


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('side', DISTANCES)
@pytest.mark.parametrize('way', WAYS)
def test_smooth_fields_do_not_shift_and_classes_take_the_nearest_centre(way: str, side: int, axis: int) -> None:
    """Maps at the sizes of the networks, and at the image's, as earlier versions wrote them."""
    position = np.arange(side, dtype=np.uint8)
    classes = np.broadcast_to(position[:, None] if axis == 0 else position, (side, side)).copy()
    for generator, segmenter in ((SIDE, 2 * side), (side, side)):
        fields = dict(
            img=colours(ramp(side, axis)),
            gt_seg_map=classes,
            semantic=classes,
            synthesis=colours(ramp(generator, axis)),
            perceptual=ramp(generator, axis),
            entropy=ramp(segmenter, axis),
            distance=ramp(segmenter, axis))
        out = WAYS[way](fields, 'smooth')
        for kind in SMOOTH[1:]:
            shift = (out[kind] - out['img'])[2:-2, 2:-2].mean() * SIDE / 256  # in pixels of the network
            assert abs(shift) < 0.05, (kind, shift)
        for field in CLASSES:
            taken = out[field][:, 0] if axis == 0 else out[field][0]
            distance = taken + 0.5 - (np.arange(SIDE) + 0.5) * side / SIDE
            assert np.abs(distance).max() <= DISTANCES[side]
        np.testing.assert_array_equal(out['gt_seg_map'], out['semantic'])


@pytest.mark.parametrize('way', WAYS)
def test_nearest_pixels_are_those_of_pillow_and_the_same_in_all_fields(way: str) -> None:
    """SynBoost's rule; the synthesis, which has the size of the network, stays as it is."""
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 19, (45, 64), np.uint8)
    synthesis = colours(rng.integers(0, 256, (SIDE, SIDE), np.uint8))
    fields = dict(dict.fromkeys(('gt_seg_map', *MAP_KINDS), plane), img=colours(plane), synthesis=synthesis)
    expected = np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), Image.NEAREST))
    for field, got in WAYS[way](fields, 'nearest').items():
        np.testing.assert_allclose(got, synthesis[..., 0] if field == 'synthesis' else expected, atol=1e-4)


@pytest.mark.parametrize('size', [(16, 24), (45, 80), (64, 128), (100, 160)])
def test_interpolation_is_that_of_pillow(size: tuple) -> None:
    """Smaller and larger, to one grey level, also where bicubic overshoots the range."""
    rng = np.random.default_rng(1)
    image = np.concatenate([rng.integers(0, 256, (45, 40, 3), np.uint8), np.full((45, 40, 3), 255, np.uint8)], 1)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    for mode in ('bicubic', 'bilinear'):
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling[mode.upper()])).astype(float)
        got = resize_images(x, size, mode)
        assert 0 <= got.min() and got.max() <= 255 + 1e-3
        assert np.abs(got[0].permute(1, 2, 0).round().numpy() - expected).max() <= 1
    assert np.abs(resize_field('synthesis', image, size).astype(float) - expected).max() <= 1
    plane = np.asarray(Image.fromarray(image[..., 0]).resize(size[::-1], Image.NEAREST))
    np.testing.assert_array_equal(resize_nearest(image[..., 0], size), plane)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="resampling must be one of .*'smooth', 'nearest'.*, got 'synboost'"):
        ResizeDissimilarityInputs((8, 8), resampling='synboost')
    for scale in (8, (8, 0), (8, ), (0.5, 0.5)):
        with pytest.raises(ValueError, match='scale must be'):
            ResizeDissimilarityInputs(scale)
