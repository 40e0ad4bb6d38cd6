# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Convert public ESPNetv2 segmentation weights to this package's names.

    python tools/model_converters/espnetv2_to_mgcda.py espnetv2_s_2.0_city_1024x512.pth checkpoints/espnetv2_city.pth

The weights are those of the repository sacmehta/EdgeNets (Mehta et al., CVPR 2019) for Cityscapes, at any of its
scales. Their twentieth output, the background, is dropped. The result loads into the model of
``configs/espnetv2/espnetv2_cityscapes-1024x512.py`` (scale 2.0), or the same with another ``widen_factor``.
"""
import argparse
import os
import re
import sys

import torch
from mmseg.datasets import CityscapesDataset
from mmseg.utils import register_all_modules
from torch import Tensor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'projects'))

from mgcda.models.backbones import ESPNetv2
from mgcda.models.decode_heads import ESPNetv2Head
from mgcda.utils.checkpoints import checkpoint_bytes, read_checkpoint
from mgcda.utils.files import write_file

_UNIT = {
    r'proj_1x1\.(conv|bn)': r'reduce.\1',
    r'proj_1x1\.act': 'reduce.activate',
    r'spp_dw\.(\d)\.conv': r'branches.\1',
    r'br_after_cat\.bn': 'norm',
    r'br_after_cat\.act': 'fuse_act',
    r'conv_1x1_exp\.(conv|bn)': r'expand.\1',
    r'module_act': 'act',
}
_CONV_NORM_ACT = {r'0': 'conv', r'1': 'bn', r'2': 'activate'}

#: Public name of a layer -> the part of this package's name that follows; see :func:`_rename`.
_STRIDED = {
    **{
        rf'eesp\.{old}': f'eesp.{new}'
        for old, new in _UNIT.items()
    },
    r'inp_reinf\.(\d)\.(conv|bn)': r'reinforce.\1.\2',
    r'inp_reinf\.0\.act': 'reinforce.0.activate',
    r'act': 'act',
}
_POOL = {
    **{
        rf'projection_layer\.cbr\.{old}': f'project.{new}'
        for old, new in _CONV_NORM_ACT.items()
    },
    r'stages\.(\d)': r'branches.\1',
    r'merge_layer\.0\.br\.0': 'norm',
    r'merge_layer\.0\.br\.1': 'act',
    **{
        rf'merge_layer\.2\.cbr\.{old}': f'merge.{new}'
        for old, new in _CONV_NORM_ACT.items()
    },
}
_EXPAND = {r'merge_layer\.3': 'conv', r'br\.br\.0': 'bn', r'br\.br\.1': 'activate'}
_SKIP = {
    r'wt_layer\.1': 'gate',
    **{
        rf'expansion_layer\.cbr\.{old}': f'conv.{new}'
        for old, new in _CONV_NORM_ACT.items()
    },
}

#: Never used by the public network: its strided units return in front of this activation.
_UNUSED = re.compile(r'base_net\.level\d_0\.eesp\.module_act\.weight')
_PARAMETER = re.compile(r'(.+)\.(weight|bias|running_mean|running_var|num_batches_tracked)')


def _first(rules: dict[str, str], name: str) -> str:
    for pattern, replacement in rules.items():
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    raise KeyError(name)


def _rename(name: str) -> str:
    """This package's name of a public layer; KeyError if there is none."""
    if name.startswith('base_net.level1.'):
        return 'backbone.stem.' + _first({r'(conv|bn)': r'\1', r'act': 'activate'}, name[len('base_net.level1.'):])
    match = re.fullmatch(r'base_net\.level([2-4])_0\.(.+)', name)
    if match:
        return f'backbone.stages.{int(match[1]) - 2}.0.' + _first(_STRIDED, match[2])
    match = re.fullmatch(r'base_net\.level([34])\.(\d)\.(.+)', name)
    if match:
        return f'backbone.stages.{int(match[1]) - 2}.{int(match[2]) + 1}.' + _first(_UNIT, match[3])
    if name == 'bu_dec_l4.merge_layer.3':
        return 'decode_head.conv_seg'
    match = re.fullmatch(r'bu_dec_l([1-4])\.(.+)', name)
    if match:
        level = int(match[1]) - 1
        if re.match(r'merge_layer\.3|br\.', match[2]):
            return f'decode_head.expands.{level}.' + _first(_EXPAND, match[2])
        return f'decode_head.pools.{level}.' + _first(_POOL, match[2])
    match = re.fullmatch(r'merge_enc_dec_l([2-4])\.(.+)', name)
    if match:
        return f'decode_head.skips.{int(match[1]) - 2}.' + _first(_SKIP, match[2])
    match = re.fullmatch(r'bu_br_l([2-4])\.([01])', name)
    if match:
        return f'decode_head.{("norms", "acts")[int(match[2])]}.{int(match[1]) - 2}'
    raise KeyError(name)


def _target_shapes(state: dict[str, Tensor], num_classes: int) -> tuple[float, dict[str, torch.Size]]:
    """Scale of the weights, and the names and shapes of this package's network of that scale."""
    try:
        widths = (state['base_net.level1.conv.weight'].size(0), state['base_net.level2_0.act.weight'].size(0))
        channels = state['bu_dec_l1.projection_layer.cbr.0.weight'].size(0)
        decoder_channels = [state[f'bu_dec_l{level}.merge_layer.3.weight'].size(0) for level in (1, 2, 3)]
    except KeyError as error:
        raise ValueError(f'these are not the weights of an ESPNetv2 segmenter: {error} is missing') from None
    scales = [scale for scale, setting in ESPNetv2.arch_settings.items() if setting[:2] == widths]
    if not scales:
        raise ValueError(f'no ESPNetv2 begins with {widths} channels; '
                         f'known scales are {tuple(ESPNetv2.arch_settings)}')
    register_all_modules(init_default_scope=True)
    with torch.device('meta'):
        backbone = ESPNetv2(scales[0])
        head = ESPNetv2Head(backbone.channels, channels, decoder_channels=decoder_channels, num_classes=num_classes)
    shapes = {f'backbone.{key}': value.shape for key, value in backbone.state_dict().items()}
    shapes.update({f'decode_head.{key}': value.shape for key, value in head.state_dict().items()})
    return scales[0], shapes


def convert(state: dict[str, Tensor], num_classes: int = 19) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Rename a public state dict.

    Args:
        state: Public weights.
        num_classes: Outputs that are kept, the first ones.

    Returns:
        The renamed weights, and what was dropped of the public ones, with the reason.

    Raises:
        ValueError: If a key is unknown or missing, or a shape does not fit.
    """
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    _, shapes = _target_shapes(state, num_classes)
    converted: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    for key, value in state.items():
        if _UNUSED.fullmatch(key):
            dropped[key] = 'never used by the network'
            continue
        match = _PARAMETER.fullmatch(key)
        try:
            name = f'{_rename(match[1] if match else key)}.{match[2] if match else ""}'
        except KeyError:
            raise ValueError(f'unknown key {key!r}') from None
        if name.startswith('decode_head.conv_seg.') and value.size(0) > num_classes:
            dropped[f'{key}[{num_classes}:]'] = f'only the first {num_classes} outputs are kept'
            value = value[:num_classes].clone()
        if name not in shapes:
            raise ValueError(f'unknown key {key!r}')
        if value.shape != shapes[name]:
            raise ValueError(f'{key!r} has shape {tuple(value.shape)}, {name!r} has {tuple(shapes[name])}')
        converted[name] = value
    missing = sorted(set(shapes) - set(converted))
    if missing:
        raise ValueError(f'no public weight for {missing[:5]} ({len(missing)} in all)')
    return converted, dropped


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Convert public ESPNetv2 segmentation weights')
    parser.add_argument('source', help='public weights (.pth)')
    parser.add_argument('target', help='checkpoint to write')
    parser.add_argument('--num-classes', type=int, default=19, help='outputs to keep, the first ones (default: 19)')
    args = parser.parse_args()
    state = read_checkpoint(args.source)
    try:
        converted, dropped = convert(state, args.num_classes)
    except ValueError as error:
        raise ValueError(f'{args.source}: {error}') from error
    meta = dict(source='sacmehta/EdgeNets (Mehta et al., ESPNetv2, CVPR 2019)')
    if args.num_classes == len(CityscapesDataset.METAINFO['classes']):
        meta['dataset_meta'] = dict(CityscapesDataset.METAINFO)
    write_file(args.target, checkpoint_bytes(dict(meta=meta, state_dict=converted)))
    for key, reason in dropped.items():
        print(f'dropped {key}: {reason}')
    print(f'{len(converted)} weights -> {args.target}')


if __name__ == '__main__':
    main()
