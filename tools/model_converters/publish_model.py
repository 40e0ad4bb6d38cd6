# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Make an inference checkpoint: ``python tools/model_converters/publish_model.py CHECKPOINT OUT [--config CONFIG]``.

It keeps the weights that inference needs and a few lines of metadata. Optimizer, logs, discriminators, what only
training needs and frozen networks stay behind. With ``--config`` the model is built, and the weights must fit it.
"""
import argparse
import hashlib
import re
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import mmengine
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'projects'))
import mgcda
from mgcda.checkpoint_loading import read_checkpoint
from mgcda.engine.hooks.checkpoint_guard_hook import TEST_FORGIVEN, check_fit, weights_of
from mgcda.engine.launch import check_checkpoint_file
from mgcda.files import checkpoint_bytes, remove_temporary_files, write_file

LEFT_BEHIND = re.compile(r'(^|\.)(train_only|frozen|discriminators?)\.')
KEPT_META = ('dataset_meta', 'epoch', 'iter', 'experiment_name')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Make an inference checkpoint')
    parser.add_argument('checkpoint', help='checkpoint of a training')
    parser.add_argument('out', help='file to write; the start of its SHA-256 is appended to the name: OUT-1a2b3c4d.pth')
    parser.add_argument(
        '--config', help='config of the model: checks the weights against it, and replaces the stored one')
    return parser.parse_args(argv)


def publish(checkpoint_path: str, out: str, config: str | None = None) -> Path:
    """Write the inference checkpoint; returns its path.

    Raises:
        FileNotFoundError: There is no such checkpoint or config.
        ValueError: The checkpoint holds no weights, or does not fit the config.
    """
    target = Path(out)
    if target.is_dir():
        raise ValueError(f'{out} is a folder: name the file to write, such as {target / Path(checkpoint_path).name}')
    if config is not None and not Path(config).is_file():
        raise FileNotFoundError(f'config {config} does not exist')
    check_checkpoint_file(checkpoint_path)
    checkpoint = read_checkpoint(checkpoint_path)
    meta = checkpoint.get('meta') or {}
    published = dict(
        meta={key: meta[key]
              for key in KEPT_META if key in meta},
        state_dict=OrderedDict((name, value.detach().clone()) for name, value in weights_of(checkpoint).items()
                               if not LEFT_BEHIND.search(name)))
    published['meta'].update(mgcda_version=mgcda.__version__, mmengine_version=mmengine.__version__)
    if 'cfg' in meta:
        published['meta']['cfg'] = meta['cfg']
    if config is not None:
        cfg = Config.fromfile(config)
        published['state_dict'] = keep_deployed(cfg, published)
        published['meta']['cfg'] = cfg.pretty_text
    if not published['state_dict']:
        raise ValueError(f'{checkpoint_path} holds no weights that inference needs')
    return write(published, target)


def keep_deployed(cfg: Config, checkpoint: dict) -> 'OrderedDict[str, Tensor]':
    """The weights that the deployed model has, once they fit."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = MODELS.build(cfg.model)
    if hasattr(model, 'switch_to_deploy'):
        model.switch_to_deploy()
    check_fit(model, checkpoint, TEST_FORGIVEN)
    own = model.state_dict()
    return OrderedDict((name, value) for name, value in checkpoint['state_dict'].items() if name in own)


def write(checkpoint: dict, target: Path) -> Path:
    """Write under a temporary name, sync, then rename; the same content always gives the same bytes and name."""
    content = checkpoint_bytes(checkpoint)
    stem = target.name.removesuffix('.pth')
    final = target.with_name(f'{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth')
    remove_temporary_files(target.parent, re.escape(stem) + '-[0-9a-f]{8}.pth')
    write_file(final, content, sync=True)
    return final


def main(argv: Sequence[str] | None = None) -> Path:
    args = parse_args(argv)
    final = publish(args.checkpoint, args.out, args.config)
    print(f'{final}: {final.stat().st_size / 2**20:.1f} MiB')
    return final


if __name__ == '__main__':
    main()
