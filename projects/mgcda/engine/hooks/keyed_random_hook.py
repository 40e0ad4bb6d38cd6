# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import random
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class KeyedRandomHook(Hook):
    """Reseed Python's, NumPy's and torch's generators before every training iteration from (seed, iteration, rank).

    What a training step draws (dropout, sampling of pixels) is then the same whether the run came there in one go or
    was resumed. So is what a validation draws, which has a key of its own. It runs before other hooks and costs no
    synchronisation with the device.
    """

    priority = 'HIGHEST'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Sequence[dict] | None = None) -> None:
        """Seed all generators of the process."""
        _seed(runner.seed, runner.iter, get_rank())

    def before_val_epoch(self, runner: Runner) -> None:
        """Seed all generators of the process."""
        _seed(runner.seed, runner.iter, get_rank(), 1)


def _seed(*key: int) -> None:
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))
