# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Outputs of inner layers of a network, read while it runs."""
import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

#: End of a name that stands for the input of a layer.
INPUT = ':input'
_PART = re.compile(r'\[(-?\d+)\]$')


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The module of a name, such as 'backbone.layer4', 'backbone[-1]' or 'decode_head.conv_seg:input'.

    Raises:
        ValueError: If there is none of that name; it lists names that are near.
    """
    modules = dict(model.named_modules())
    name = _PART.sub('', layer.removesuffix(INPUT))
    if name and name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, modules, n=6, cutoff=0.5)
    near = near or [child for child, _ in model.named_children()]
    raise ValueError(f'{type(model).__name__} has no layer {name!r}; near it are {near}')


@contextmanager
def record_layers(model: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """A dict that gets the outputs of layers by name while the model runs; of a layer that runs twice, the last.

    A name that ends on ':input' stands for what goes into the layer, one that ends on '[-1]' for the last of several
    outputs.

    Raises:
        ValueError: If a layer does not exist or its output is not one map (N, D, h, w).
    """
    features: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for layer in layers:
            module = find_layer(model, layer)
            if layer.endswith(INPUT):
                handle = module.register_forward_pre_hook(partial(_record_input, features, layer))
            else:
                handle = module.register_forward_hook(partial(_record, features, layer))
            stack.callback(handle.remove)
        yield features


def _record_input(features: dict[str, Tensor], layer: str, module: nn.Module, inputs: tuple) -> None:
    _record(features, layer, module, inputs, inputs[0] if len(inputs) == 1 else inputs)


def _record(features: dict[str, Tensor], layer: str, module: nn.Module, inputs: tuple, output: Any) -> None:
    part = _part_of(layer)
    if part is not None:
        if not isinstance(output, (tuple, list)) or not -len(output) <= part < len(output):
            raise ValueError(f'layer {layer!r} ({type(module).__name__}) gives {_description(output)}, of which there '
                             f'is no [{part}]')
        output = output[part]
    if not isinstance(output, Tensor) or output.dim() != 4:
        raise ValueError(f'layer {layer!r} ({type(module).__name__}) gives {_description(output)}: name a layer that '
                         "gives one map of features (N, D, h, w), or one of several outputs, as 'backbone[-1]'")
    features[layer] = output


def _part_of(layer: str) -> int | None:
    """Which of several outputs a name stands for."""
    match = _PART.search(layer)
    return None if match is None else int(match[1])


def _description(output: Any) -> str:
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    return f'a {type(output).__name__}' + (f' of {len(output)}' if isinstance(output, (tuple, list)) else '')
