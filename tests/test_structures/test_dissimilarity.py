# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from mgcda.datasets import PackDissimilarityInputs
from mgcda.models.data_preprocessor import DissimilarityDataPreProcessor
from mgcda.structures import MAP_KINDS, one_hot_labels
from mgcda.structures.dissimilarity import MAP_SCALES, NUM_CHANNELS, split_channels


def test_what_is_packed_is_split_again():
    """Every content has a value of its own, colours have three: none may come out in the place of another."""
    generator = torch.Generator().manual_seed(0)
    sizes = dict(img=(4, 6, 3), synthesis=(4, 6, 3), **dict.fromkeys(MAP_KINDS[1:], (4, 6)))
    planes = {kind: torch.randint(0, 256, size, generator=generator, dtype=torch.uint8) for kind, size in sizes.items()}
    planes['semantic'] = torch.tensor([0, 2, 255], dtype=torch.uint8).repeat(8).view(4, 6)
    packed = PackDissimilarityInputs().transform({kind: plane.numpy() for kind, plane in planes.items()})
    assert packed['inputs'].shape == (NUM_CHANNELS, 4, 6)
    preprocess = DissimilarityDataPreProcessor()
    image, synthesis, one_hot, uncertainty = split_channels(preprocess(dict(inputs=[packed['inputs']]))['inputs'], 3)
    for kind, picture in dict(img=image, synthesis=synthesis).items():
        torch.testing.assert_close(preprocess.denormalise(picture)[0].permute(1, 2, 0), planes[kind].float())
    assert torch.equal(one_hot, one_hot_labels(planes['semantic'][None], 3))
    for plane, kind in zip(uncertainty[0], MAP_KINDS[2:]):
        torch.testing.assert_close(plane * MAP_SCALES[kind], planes[kind].float())


def test_one_hot_has_a_channel_for_the_unknown_or_zeros():
    semantic = torch.tensor([[[0, 2, 255]]], dtype=torch.uint8)
    known = [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert one_hot_labels(semantic, 3)[0, :, 0].tolist() == known
    assert one_hot_labels(semantic, 3, unknown_channel=True)[0, :, 0].tolist() == known + [[0, 0, 1]]
    assert one_hot_labels(torch.tensor([[[-1, 3]]]), 3).sum() == 0


def test_one_hot_refuses_other_types_and_shapes():
    with pytest.raises(TypeError, match='integer train ids, got torch.float32'):
        one_hot_labels(torch.zeros(1, 2, 2), 3)
    with pytest.raises(ValueError, match=r'got \(1, 3, 2, 2\)'):
        one_hot_labels(torch.zeros(1, 3, 2, 2, dtype=torch.int64), 3)
