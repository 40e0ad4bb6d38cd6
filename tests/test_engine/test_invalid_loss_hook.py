# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from types import SimpleNamespace

import pytest
import torch

from mgcda.engine.hooks import InvalidLossHook


def step(hook: InvalidLossHook, iteration: int, **outputs) -> None:
    hook.after_train_iter(SimpleNamespace(iter=iteration), iteration, None, outputs)


def test_names_the_first_bad_iteration_and_its_losses() -> None:
    hook = InvalidLossHook(interval=4)
    step(hook, 0, loss=torch.tensor(1.), acc=torch.tensor(float('nan')))
    step(hook, 1, loss=torch.tensor(float('inf')), loss_a=torch.tensor(float('inf')), loss_b=0.5)
    step(hook, 2, loss=torch.tensor(float('nan')))
    with pytest.raises(ValueError, match=r'iteration 2 \(rank 0\): loss = inf, loss_a = inf\.'):
        step(hook, 3, loss=torch.tensor(1.))


@pytest.mark.parametrize('event', ['after_train_epoch', 'after_train', 'before_save_checkpoint'])
def test_looks_before_anything_is_kept(event: str) -> None:
    hook = InvalidLossHook(interval=50)
    step(hook, 7, loss=torch.tensor(float('nan')))
    arguments = [None, {}] if event == 'before_save_checkpoint' else [None]
    with pytest.raises(ValueError, match='iteration 8'):
        getattr(hook, event)(*arguments)


def test_finite_losses_and_none_at_all_pass() -> None:
    hook = InvalidLossHook(interval=2)
    weight = torch.ones(2, requires_grad=True)
    for iteration in range(5):
        step(hook, iteration, loss=weight.sum(), loss_a=3)
    hook.after_train_iter(SimpleNamespace(iter=5), 5, None, None)
    hook.after_train(None)
    assert not hook._pending


def test_a_new_run_forgets_the_losses_of_the_last() -> None:
    hook = InvalidLossHook()
    step(hook, 0, loss=torch.tensor(float('nan')))
    hook.before_train(None)
    hook.after_train(None)


@pytest.mark.parametrize('interval', [0, -1, 1.5, True, None])
def test_interval_is_checked(interval) -> None:
    with pytest.raises(ValueError, match='interval must be an integer of at least 1'):
        InvalidLossHook(interval=interval)
