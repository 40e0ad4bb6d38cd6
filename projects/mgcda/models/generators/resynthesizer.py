# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.utils import ConfigType, OptConfigType, OptMultiConfig, OptSampleList, SampleList
from torch import Tensor
from torch.func import functional_call

from mgcda.structures import one_hot_labels


@MODELS.register_module()
class Resynthesizer(BaseModel):
    r"""Train a generator to make images from semantic maps, against discriminators.

    .. math::
        L = \lambda_g L_G + \lambda_f L_{FM} + \lambda_p L_{VGG} + \lambda_1 |G(m) - x| + L_D

    Both players are trained at once, by one optimizer: the generator's terms see the discriminators with detached
    weights, L_D sees detached images, so each player gets the gradient of its own terms. Hence the plain Runner, its
    ``--amp`` and plain DDP apply; give the discriminators their own learning rate by
    ``paramwise_cfg=dict(custom_keys={'discriminator': dict(lr_mult=4.)})``. The published training alternates
    between the players instead, with as many updates of each. Clipping of gradients would act on both together.

    Losses and generator from SPADE (Park et al., CVPR 2019).

    Args:
        generator (dict): Maps train ids (N, H, W) to RGB images (N, 3, H, W) in [-1, 1]; see ``SPADEGenerator``.
        discriminator (dict): Of 3 + ``num_classes`` + 1 channels (image, one-hot map);
            see ``MultiScalePatchDiscriminator``.
        gan_loss (dict): Defaults to the hinge loss.
        feature_loss (dict, optional): Feature matching. Defaults to weight 10.
        perceptual_loss (dict, optional): See ``VGGPerceptualLoss``. Defaults to None.
        pixel_loss_weight (float): Weight of the mean absolute difference to the image, a departure from SPADE that
            settles the colours of short trainings. Defaults to 0.
        data_preprocessor (dict, optional): Must bring images to RGB in [-1, 1]. Defaults to None.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        ValueError: If ``pixel_loss_weight`` is negative, or a training sample has no label map.
    """

    def __init__(self,
                 generator: ConfigType,
                 discriminator: ConfigType,
                 gan_loss: ConfigType = dict(type='HingeGANLoss'),
                 feature_loss: OptConfigType = dict(type='FeatureMatchingLoss'),
                 perceptual_loss: OptConfigType = None,
                 pixel_loss_weight: float = 0.0,
                 data_preprocessor: OptConfigType = None,
                 init_cfg: OptMultiConfig = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if pixel_loss_weight < 0:
            raise ValueError(f'pixel_loss_weight must not be negative, got {pixel_loss_weight}')
        self.generator = MODELS.build(generator)
        self.discriminator = MODELS.build(discriminator)
        self.gan_loss = MODELS.build(gan_loss)
        self.feature_loss = None if feature_loss is None else MODELS.build(feature_loss)
        self.perceptual_loss = None if perceptual_loss is None else MODELS.build(perceptual_loss)
        self.pixel_loss_weight = pixel_loss_weight

    def forward(self,
                inputs: Tensor,
                data_samples: OptSampleList = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | SampleList:
        """``inputs``: RGB float (N, 3, H, W) in [-1, 1]; ``data_samples`` hold ``gt_sem_seg`` of train ids.

        'tensor' returns the synthesised RGB images (N, 3, H, W) in [-1, 1], 'loss' a dict of losses, 'predict' the
        samples with ``synthesis``.
        """
        semantic = self.stack_semantic(data_samples)
        if mode == 'loss':
            return self.loss(inputs, semantic)
        if mode == 'predict':
            return self.predict(semantic, data_samples)
        if mode == 'tensor':
            return self.generator(semantic)
        raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', got {mode!r}")

    @staticmethod
    def stack_semantic(data_samples: OptSampleList) -> Tensor:
        """Label maps of the samples as one integer tensor (N, H, W)."""
        if not data_samples or any('gt_sem_seg' not in sample for sample in data_samples):
            raise ValueError('each data sample must hold gt_sem_seg, the semantic map to make the image from: '
                             'load annotations in the pipeline')
        return torch.cat([sample.gt_sem_seg.data for sample in data_samples])

    def loss(self, inputs: Tensor, semantic: Tensor) -> dict[str, Tensor]:
        """``inputs``: RGB (N, 3, H, W) in [-1, 1]; ``semantic``: integer (N, H, W). Returns scalars ``loss_*``."""
        label_map = one_hot_labels(semantic, self.generator.num_classes, unknown_channel=True)
        fake = self.generator(semantic)
        real_outputs = self.discriminator(torch.cat([inputs, label_map], dim=1))
        fake_outputs = self.discriminator(torch.cat([fake.detach(), label_map], dim=1))
        loss_real, loss_fake = self.gan_loss.discriminator(real_outputs, fake_outputs)
        frozen_outputs = self._discriminate_frozen(torch.cat([fake, label_map], dim=1))
        losses = dict(
            loss_disc_real=loss_real, loss_disc_fake=loss_fake, loss_gen_gan=self.gan_loss.generator(frozen_outputs))
        if self.feature_loss is not None:
            losses['loss_gen_feature'] = self.feature_loss(frozen_outputs, real_outputs)
        if self.perceptual_loss is not None:
            losses['loss_gen_perceptual'] = self.perceptual_loss(fake, inputs)
        if self.pixel_loss_weight:
            losses['loss_gen_pixel'] = self.pixel_loss_weight * (fake - inputs).abs().mean()
        return losses

    def _discriminate_frozen(self, x: Tensor) -> list[list[Tensor]]:
        """Outputs of the discriminators with gradients for ``x`` alone."""
        weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, weights, (x, ))

    @torch.no_grad()
    def predict(self, semantic: Tensor, data_samples: SampleList) -> SampleList:
        """Adds ``synthesis`` to each sample: PixelData, BGR uint8 (3, H, W), at the size of the input."""
        images = self.generator(semantic)
        images = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).flip(1)  # RGB -> BGR
        for image, sample in zip(images, data_samples):
            sample.synthesis = PixelData(data=image)
        return data_samples
