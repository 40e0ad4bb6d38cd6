# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Convert the published weights of SynBoost's dissimilarity network to this package's names.

    python tools/model_converters/synboost_to_mgcda.py best_net_replicate.pth checkpoints/synboost.pth

SynBoost (Di Biase et al., CVPR 2021) publishes the weights of ``DissimNetPrior`` (VGG16, semantic map, correlation,
uncertainty weighting, SPADE in the decoder). The result loads into the model of ``configs/mgcda_cityscapes.py``.
"""
import argparse
import os
import sys

from torch import Tensor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))

from mgcda.utils.checkpoints import checkpoint_bytes, read_checkpoint
from mgcda.utils.files import write_file

#: Index of the first convolution of each block of SynBoost's VGG16 in mmpretrain's numbering, by ``layer.index``.
_VGG_BLOCKS = {
    'layer1.0': 0, 'layer1.2': 1,
    'layer2.1': 3, 'layer2.3': 4,
    'layer3.1': 6, 'layer3.3': 7, 'layer3.5': 8,
    'layer4.1': 10, 'layer4.3': 11, 'layer4.5': 12,
}  # yapf: disable
#: Decoder stage (finest = 0) -> SynBoost's names of convolution, refinement, transposed convolution and fusion.
_STAGES = {
    3: ('conv1', 'conv2', 'tconv1', 'conv7'),
    2: ('conv12', 'conv13', 'tconv3', 'conv8'),
    1: ('conv3', 'conv4', 'tconv2', 'conv9'),
    0: ('conv5', 'conv6', None, 'conv10'),
}


def key_map() -> dict[str, str]:
    """SynBoost's parameter prefixes -> this package's."""
    names = {f'vgg_encoder.{old}': f'backbone.features.{new}.conv' for old, new in _VGG_BLOCKS.items()}
    for old, new in (('semantic_encoder', 'semantic_encoder'), ('prior_encoder', 'uncertainty_encoder')):
        for level in range(4):
            names[f'{old}.hidden_layers.{level}.0'] = f'decode_head.{new}.levels.{level}.0'
    for stage, (conv, refine, up, fusion) in _STAGES.items():
        target = f'decode_head.decoder.{stage}'
        names[f'{conv}.0'] = f'{target}.conv'
        names[f'{refine}.conv'] = f'{target}.refine.conv'
        for norm in ('norm1', 'norm2'):
            names[f'{refine}.{norm}.shared.0'] = f'{target}.refine.{norm}.mlp_shared.0'
            names[f'{refine}.{norm}.gamma'] = f'{target}.refine.{norm}.mlp_gamma'
            names[f'{refine}.{norm}.beta'] = f'{target}.refine.{norm}.mlp_beta'
        if up is not None:
            names[up] = f'{target}.up'
        names[fusion] = f'decode_head.fusion.{stage}'
    names['conv11'] = 'decode_head.conv_seg'
    return names


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of ``DissimNetPrior``.

    Raises:
        ValueError: If a key is unknown or missing: the weights are of another variant of the network.
    """
    expected = {f'{old}.{kind}': f'{new}.{kind}' for old, new in key_map().items() for kind in ('weight', 'bias')}
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    unknown, missing = sorted(set(state) - set(expected)), sorted(set(expected) - set(state))
    if unknown or missing:
        raise ValueError('these are not the weights of DissimNetPrior with VGG16 and SPADE in the decoder: '
                         f'unknown keys {unknown[:5]} ({len(unknown)}), missing keys {missing[:5]} ({len(missing)})')
    return {new: state[old] for old, new in expected.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Convert the published weights of SynBoost')
    parser.add_argument('source', help='published weights of the dissimilarity network (.pth)')
    parser.add_argument('target', help='checkpoint to write')
    args = parser.parse_args()
    state = convert(read_checkpoint(args.source))
    checkpoint = dict(state_dict=state, meta=dict(source='SynBoost (Di Biase et al., CVPR 2021)'))
    write_file(args.target, checkpoint_bytes(checkpoint))
    print(f'{len(state)} weights -> {args.target}')


if __name__ == '__main__':
    main()
