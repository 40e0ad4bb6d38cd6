# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Losses of image synthesis. ``outputs`` of a discriminator: for each scale, all its layers, the judgement last."""
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptMultiConfig
from torch import Tensor

from mgcda.structures.dissimilarity import IMAGENET_MEAN, IMAGENET_STD

DiscriminatorOutputs = Sequence[Sequence[Tensor]]


def hinge_discriminator_loss(real_outputs: DiscriminatorOutputs, fake_outputs: DiscriminatorOutputs) -> list[Tensor]:
    """Hinge losses of the discriminators: [mean of max(0, 1 - real), mean of max(0, 1 + fake)], mean over scales."""
    real = [F.relu(1 - scale[-1].float()).mean() for scale in real_outputs]
    fake = [F.relu(1 + scale[-1].float()).mean() for scale in fake_outputs]
    return [torch.stack(real).mean(), torch.stack(fake).mean()]


def hinge_generator_loss(fake_outputs: DiscriminatorOutputs) -> Tensor:
    """Hinge loss of the generator: minus the mean judgement of its images, mean over scales."""
    return -torch.stack([scale[-1].float().mean() for scale in fake_outputs]).mean()


def feature_matching_loss(fake_outputs: DiscriminatorOutputs, real_outputs: DiscriminatorOutputs) -> Tensor:
    """Mean absolute difference of the discriminators' features, summed over layers, mean over scales.

    The judgements do not count. No gradient flows into ``real_outputs``.
    """
    terms = [
        torch.stack(
            [F.l1_loss(fake.float(),
                       real.detach().float()) for fake, real in zip(fake_scale[:-1], real_scale[:-1])]).sum()
        for fake_scale, real_scale in zip(fake_outputs, real_outputs)
    ]
    return torch.stack(terms).mean()


@MODELS.register_module()
class HingeGANLoss(nn.Module):
    r"""Hinge losses of both players.

    .. math::
        L_D = E[\max(0, 1 - D(x))] + E[\max(0, 1 + D(G(m)))], \quad L_G = -E[D(G(m))]

    From "Geometric GAN" (Lim and Ye, 2017).

    Args:
        loss_weight (float): Weight of L_G; L_D has weight 1. Defaults to 1.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def discriminator(self, real_outputs: DiscriminatorOutputs, fake_outputs: DiscriminatorOutputs) -> list[Tensor]:
        """See ``hinge_discriminator_loss``."""
        return hinge_discriminator_loss(real_outputs, fake_outputs)

    def generator(self, fake_outputs: DiscriminatorOutputs) -> Tensor:
        """See ``hinge_generator_loss``."""
        return self.loss_weight * hinge_generator_loss(fake_outputs)


@MODELS.register_module()
class LeastSquaresGANLoss(nn.Module):
    r"""Least-squares losses of both players.

    .. math::
        L_D = E[(D(x) - 1)^2] + E[D(G(m))^2], \quad L_G = E[(D(G(m)) - 1)^2]

    Each is a mean over the scales of the discriminator. From "Least Squares Generative Adversarial Networks" (Mao et
    al., ICCV 2017), as pix2pixHD (Wang et al., CVPR 2018) uses them.

    Args:
        loss_weight (float): Weight of L_G; L_D has weight 1. Defaults to 1.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def discriminator(self, real_outputs: DiscriminatorOutputs, fake_outputs: DiscriminatorOutputs) -> list[Tensor]:
        """The two terms of L_D."""
        return [_mean_square(real_outputs, 1), _mean_square(fake_outputs, 0)]

    def generator(self, fake_outputs: DiscriminatorOutputs) -> Tensor:
        """L_G, weighted."""
        return self.loss_weight * _mean_square(fake_outputs, 1)


def _mean_square(outputs: DiscriminatorOutputs, target: float) -> Tensor:
    """Mean squared distance of the judgements to ``target``, mean over scales."""
    return torch.stack([(scale[-1].float() - target).square().mean() for scale in outputs]).mean()


@MODELS.register_module()
class FeatureMatchingLoss(nn.Module):
    """Make the discriminators see the same in the synthesis as in the image.

    See ``feature_matching_loss``. From pix2pixHD (Wang et al., CVPR 2018).

    Args:
        loss_weight (float): Defaults to 10.
    """

    def __init__(self, loss_weight: float = 10.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, fake_outputs: DiscriminatorOutputs, real_outputs: DiscriminatorOutputs) -> Tensor:
        """Returns a scalar."""
        return self.loss_weight * feature_matching_loss(fake_outputs, real_outputs)


@MODELS.register_module()
class VGGPerceptualLoss(BaseModule):
    r"""Compare synthesis and image by the features of a frozen VGG.

    .. math:: L = \sum_l w_l \, E|F_l(G(m)) - F_l(x)|

    :math:`F_l` is level l of the network, by default the output of the first convolution (with ReLU) of stage l of
    VGG19. Images are RGB in [-1, 1]; they are brought to the mean and deviation of ImageNet. The network never trains,
    and its weights stay out of checkpoints. From pix2pixHD (Wang et al., CVPR 2018).

    Args:
        backbone (dict): The network. It needs weights, by its ``init_cfg``: of a classifier's checkpoint,
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.
        layer_weights (Sequence[float]): w_l, one a level. Defaults to (1/32, 1/16, 1/8, 1/4, 1).
        loss_weight (float): Defaults to 10.

    Raises:
        ValueError: If ``layer_weights`` and the levels differ in number.
    """

    def __init__(self,
                 backbone: ConfigType = dict(type='VGGPyramid', depth=19, num_stages=5, position='first'),
                 layer_weights: Sequence[float] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0),
                 loss_weight: float = 10.0,
                 init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)
        self.layer_weights = tuple(layer_weights)
        self.loss_weight = loss_weight
        self.register_buffer('mean', torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        self._register_state_dict_hook(_drop_weights)
        self._register_load_state_dict_pre_hook(self._keep_weights)

    def _keep_weights(self, state_dict: dict, prefix: str, *args) -> None:
        """Loading a checkpoint leaves the network as it is, and does not miss it."""
        state_dict.update(self.backbone.state_dict(prefix=prefix + 'backbone.'))

    def train(self, mode: bool = True) -> 'VGGPerceptualLoss':
        """Stays in eval mode."""
        return super().train(False)

    def features(self, image: Tensor) -> Sequence[Tensor]:
        """``image``: RGB float (N, 3, H, W) in [-1, 1]. Returns F_l, one (N, C_l, h_l, w_l) a level."""
        features = self.backbone(((image + 1) * 127.5 - self.mean) / self.std)
        if len(features) != len(self.layer_weights):
            raise ValueError(f'layer_weights must have one weight for each of the {len(features)} levels of the '
                             f'backbone, got {len(self.layer_weights)}')
        return features

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """``fake``, ``real``: RGB float (N, 3, H, W) in [-1, 1]. Returns a scalar."""
        with torch.no_grad():
            real_features = self.features(real)
        terms = [
            weight * F.l1_loss(a.float(), b.float())
            for weight, a, b in zip(self.layer_weights, self.features(fake), real_features)
        ]
        return self.loss_weight * torch.stack(terms).sum()


def _drop_weights(module: VGGPerceptualLoss, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    for key in [key for key in state_dict if key.startswith(prefix + 'backbone.')]:
        del state_dict[key]
