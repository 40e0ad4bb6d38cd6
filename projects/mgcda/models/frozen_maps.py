# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptConfigType
from torch import Tensor, nn

from mgcda.labels import UNKNOWN_TRAIN_ID
from mgcda.scores import entropy, margin
from mgcda.structures import resize_images, resize_nearest
from mgcda.structures.dissimilarity import IMAGENET_MEAN, IMAGENET_STD

from .builder import load_network

NORMALISATIONS = ('image', 'absolute')
INTERPOLATIONS = ('bicubic', 'bilinear')


@MODELS.register_module()
class FrozenMaps(nn.Module):
    r"""What frozen networks say of an image: its resynthesis, its semantic map and three uncertainty maps.

    With the softmax :math:`p` of the segmenter, over its two largest values :math:`p_1, p_2`, and the features
    :math:`\phi_l` of a perceptual network on image and synthesis,

    .. math::

        e = -\sum_c p_c \log p_c, \qquad d = p_1 - p_2, \qquad
        q = \sum_l w_l \, \mathrm{up}\!\left(\mathrm{mean}_k |\phi_{l,k}(x) - \phi_{l,k}(s)|\right).

    ``normalisation='image'``, SynBoost's (Di Biase et al., CVPR 2021): entropy :math:`(e - \min e) / \max e`, distance
    :math:`1 - (d - \min d) / \max d`, perceptual difference :math:`(q - \min q) / (\max q - \min q)`, the extrema over
    the image. ``'absolute'``: :math:`e / \log C`, :math:`1 - d`, :math:`\min(q / q_0, 1)` with
    :math:`q_0` = ``perceptual_scale``.

    The networks are loaded when the module is built, never trained and never saved: their keys stay out of the state
    dict. Without uncertainty maps, one pass of the segmenter and one of the generator are all that is run. Two sizes
    are kept apart, at which the maps are returned: ``segmenter_size`` (semantic map, entropy, distance) and
    ``generator_size`` (synthesis, perceptual difference).

    Args:
        segmenter (dict): ``config``, an MMSegmentation config file, and ``checkpoint``, its weights (a path or URL).
            A checkpoint of None leaves random weights, for trying things out.
        generator (dict): The same of a resynthesis config; its model's ``generator`` is taken.
        perceptual (dict, optional): The perceptual network: ``backbone``, a config that returns five levels, and
            ``weights``, one a level. None compares the features of the segmenter's backbone, all levels with the same
            weight: a departure for where no VGG19 is at hand. Defaults to None.
        segmenter_size (Tuple[int, int], optional): (H, W). None takes the image's. Defaults to (1024, 2048).
        segmenter_interpolation (str): How images are brought to ``segmenter_size``: 'bicubic', as SynBoost does with
            Pillow, or 'bilinear'; both antialiased where that is smaller. Defaults to 'bicubic'.
        generator_size (Tuple[int, int]): (H, W). Defaults to (256, 512).
        normalisation (str): 'image' or 'absolute'. Defaults to 'image'.
        perceptual_scale (float): :math:`q_0`. Defaults to 1.
        uncertainty (bool): Make the three uncertainty maps, too. Defaults to True.

    Raises:
        FileNotFoundError: If a config or checkpoint does not exist.
        ValueError: If ``normalisation`` or ``segmenter_interpolation`` is unknown, a config has no such model, or a
            perceptual network is given that nothing is asked of.
    """

    def __init__(self,
                 segmenter: ConfigType,
                 generator: ConfigType,
                 perceptual: OptConfigType = None,
                 segmenter_size: tuple[int, int] | None = (1024, 2048),
                 generator_size: tuple[int, int] = (256, 512),
                 segmenter_interpolation: str = 'bicubic',
                 normalisation: str = 'image',
                 perceptual_scale: float = 1.0,
                 uncertainty: bool = True) -> None:
        super().__init__()
        if perceptual is not None and not uncertainty:
            raise ValueError('perceptual must be None with uncertainty=False: no perceptual difference is made')
        if normalisation not in NORMALISATIONS:
            raise ValueError(f'normalisation must be one of {NORMALISATIONS}, got {normalisation!r}')
        if segmenter_interpolation not in INTERPOLATIONS:
            raise ValueError(f'segmenter_interpolation must be one of {INTERPOLATIONS}, got '
                             f'{segmenter_interpolation!r}')
        self.segmenter = load_network(segmenter, 'frozen.segmenter')
        self.generator = load_network(generator, 'frozen.generator', child='generator')
        if perceptual is None:
            self.perceptual, self.perceptual_weights = None, None
        else:
            self.perceptual = MODELS.build(perceptual['backbone'])
            self.perceptual.init_weights()
            self.perceptual_weights = tuple(perceptual['weights'])
        self.segmenter_size = None if segmenter_size is None else tuple(segmenter_size)
        self.generator_size = tuple(generator_size)
        self.segmenter_interpolation = segmenter_interpolation
        self.normalisation = normalisation
        self.perceptual_scale = perceptual_scale
        self.uncertainty = uncertainty
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)
        super().train(False)
        self._register_state_dict_hook(_drop_keys)
        self.register_load_state_dict_post_hook(_forgive_missing_keys)

    def train(self, mode: bool = True) -> 'FrozenMaps':
        """Stay in evaluation mode."""
        return self

    def init_weights(self) -> None:
        """Keep the weights that were loaded when the module was built."""

    @torch.no_grad()
    def forward(self, images: Tensor, replaced: Tensor | None = None) -> dict[str, Tensor]:
        """Make the maps of images.

        Args:
            images (Tensor): BGR, float (N, 3, H, W) in 0..255.
            replaced (Tensor, optional): Train ids (N, 1, H, W), integers, that take the place of the segmenter's
                before the resynthesis; 255 where the segmenter's stay. Defaults to None.

        Returns:
            dict: ``synthesis`` BGR float (N, 3, *generator_size) in 0..255, ``semantic`` int64
            (N, 1, *segmenter_size) train ids, and, with ``uncertainty``, float in [0, 1] ``entropy`` and ``distance``
            (N, 1, *segmenter_size) and ``perceptual`` (N, 1, *generator_size).
        """
        size = self.segmenter_size or tuple(images.shape[-2:])
        seg_logits = self._segment(resize_images(images, size, self.segmenter_interpolation)).float()
        semantic = seg_logits.max(dim=1, keepdim=True).indices
        if replaced is not None:
            replaced = resize_nearest(replaced, size).to(semantic)
            semantic = torch.where(replaced == UNKNOWN_TRAIN_ID, semantic, replaced)
        synthesis = synthesize(self.generator, semantic, self.generator_size)
        maps = dict(synthesis=synthesis, semantic=semantic)
        if self.uncertainty:
            small = resize_images(images, self.generator_size)
            uncertainty = dict(
                entropy=entropy(seg_logits)[:, None],
                perceptual=self._perceptual_difference(small, synthesis),
                distance=margin(seg_logits)[:, None])
            maps.update(self._normalise(uncertainty, seg_logits.shape[1]))
        return maps

    def _segment(self, images: Tensor) -> Tensor:
        inputs = self.segmenter.data_preprocessor(dict(inputs=list(images)), False)['inputs']
        size = tuple(images.shape[-2:])
        meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
        return self.segmenter.inference(inputs, [meta] * len(images))

    def _perceptual_difference(self, images: Tensor, synthesis: Tensor) -> Tensor:
        pair = (torch.cat([images, synthesis]).flip(1) - self.mean) / self.std
        network = self.segmenter.extract_feat if self.perceptual is None else self.perceptual
        levels: Sequence[Tensor] = network(pair)
        weights = self.perceptual_weights or (1 / len(levels), ) * len(levels)
        if len(weights) != len(levels):
            raise ValueError(f'perceptual.weights has {len(weights)} entries for {len(levels)} levels of features')
        total = 0
        for weight, level in zip(weights, levels):
            of_image, of_synthesis = level.float().chunk(2)
            difference = (of_image - of_synthesis).abs().mean(dim=1, keepdim=True)
            total = total + weight * F.interpolate(
                difference, size=self.generator_size, mode='bicubic', align_corners=False)
        return total

    def _normalise(self, maps: dict[str, Tensor], num_classes: int) -> dict[str, Tensor]:
        """``maps['distance']`` is 1 - d, as ``scores.margin`` returns it."""
        if self.normalisation == 'absolute':
            maps = dict(
                entropy=maps['entropy'] / math.log(num_classes),
                perceptual=maps['perceptual'] / self.perceptual_scale,
                distance=maps['distance'])
        else:
            e_min, e_max = _extrema(maps['entropy'])
            q_min, q_max = _extrema(maps['perceptual'])
            gap = 1 - maps['distance']
            d_min, d_max = _extrema(gap)
            maps = dict(
                entropy=_divide(maps['entropy'] - e_min, e_max),
                perceptual=_divide(maps['perceptual'] - q_min, q_max - q_min),
                distance=1 - _divide(gap - d_min, d_max))
        return {kind: value.clamp(0, 1) for kind, value in maps.items()}


def synthesize(generator: nn.Module, semantic: Tensor, size: tuple[int, int]) -> Tensor:
    """Images that a generator makes of semantic maps (N, 1, H, W): BGR float (N, 3, *size) in 0..255."""
    synthesis = generator(resize_nearest(semantic, size)[:, 0]).float()
    return ((synthesis.flip(1) + 1) * 127.5).clamp(0, 255)


def _extrema(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each image, (N, 1, 1, 1) each."""
    return x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)


def _divide(x: Tensor, by: Tensor) -> Tensor:
    return x / by.clamp(min=torch.finfo(x.dtype).eps)


def _drop_keys(module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]


def _forgive_missing_keys(module: nn.Module, incompatible_keys) -> None:
    """Called for this module alone: its keys are recognised by the names of its children."""
    own = {key for key, _ in module.named_parameters()} | {key for key, _ in module.named_buffers()}
    incompatible_keys.missing_keys[:] = [
        key for key in incompatible_keys.missing_keys
        if not any(key == name or key.endswith(f'.{name}') for name in own)
    ]
