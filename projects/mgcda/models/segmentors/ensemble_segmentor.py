# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from collections.abc import Iterator, Sequence

import torch
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import ConfigType
from torch import Tensor

from ..builder import load_network
from .averaged_segmentor import AveragedMixin


class EnsembleMixin(AveragedMixin):
    """Deep ensemble (Lakshminarayanan et al. 2017): the mean of several networks, see :class:`AveragedMixin`.

    The first is the model itself, with the checkpoint that it is tested with. The others are frozen, of any
    architecture, and never saved.

    Args:
        members (Sequence[dict]): The others, each with ``config`` and ``checkpoint``.
        score, scores, ...: As of :class:`AnomalySegmentor`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: If there are no members, or one has other classes or normalises images in another way.
    """

    def __init__(self, *args, members: Sequence[ConfigType], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not members:
            raise ValueError('members must name at least one more network, as dict(config=..., checkpoint=...)')
        networks = []
        for index, cfg in enumerate(members):
            network = load_network(cfg, f'members[{index}]').requires_grad_(False)
            self._check_alike(network, f'members[{index}]')
            networks.append(network)
        # A tuple, not a child: its weights stay out of the checkpoint, and train() does not reach it.
        self.members = tuple(networks)

    def _check_alike(self, network: torch.nn.Module, name: str) -> None:
        if network.out_channels != self.out_channels:
            raise ValueError(f'{name} has {network.out_channels} classes, the model {self.out_channels}')
        for key in ('mean', 'std', 'channel_conversion'):
            own, other = (getattr(model.data_preprocessor, key, None) for model in (self, network))
            same = torch.equal(own, other) if isinstance(own, Tensor) and isinstance(other, Tensor) else own == other
            if not same:
                raise ValueError(f'{name} normalises images in another way: its data_preprocessor has another {key}')

    def passes(self, inputs: Tensor, batch_img_metas: list[dict]) -> Iterator[Tensor]:
        """Class logits (N, C, H, W) of each network."""
        yield self.inference(inputs, batch_img_metas)
        for network in self.members:
            yield network.to(inputs.device).inference(inputs, batch_img_metas)


@MODELS.register_module()
class EnsembleAnomalySegmentor(EnsembleMixin, EncoderDecoder):
    """:class:`mmseg.models.EncoderDecoder` as the first of an ensemble, see :class:`EnsembleMixin`."""


@MODELS.register_module()
class CascadeEnsembleAnomalySegmentor(EnsembleMixin, CascadeEncoderDecoder):
    """:class:`mmseg.models.CascadeEncoderDecoder` as the first of an ensemble, see :class:`EnsembleMixin`."""
