# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Multi-source domain adversarial training as a hook (MGCDA, section 3.3)."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner
from mmengine.utils import apply_to
from mmseg.registry import HOOKS, MODELS, OPTIMIZERS
from mmseg.utils import ConfigType, OptConfigType
from torch import Tensor, nn

from mgcda.labels import IGNORE
from mgcda.structures import resize_nearest

#: Key of the hook's state in a checkpoint.
CHECKPOINT_KEY = 'mdat'


@HOOKS.register_module()
class MDATHook(Hook):
    r"""Train a segmentor against domain classifiers (MGCDA, eq. 1 and 2).

    Each iteration of training,

    1. in the segmentor's ``forward(mode='loss')``, the frozen classifiers :math:`D_f` and :math:`D_o` judge the taps
       ``features`` and ``sigmoid(anomaly_logit)``, and :math:`\lambda_f L_{D_f} + \lambda_o L_{D_o}` (eq. 2) joins
       the losses as ``loss_mda_feature`` and ``loss_mda_output``;
    2. after the segmentor's step, the classifiers learn the true domains of the same taps, detached, with an
       optimizer wrapper of their own that mirrors the run's: its class, mixed precision and gradient accumulation.

    Their learning rate follows the run's schedule: it is that of ``optimizer`` times the run's current over its
    configured one. Gradients are averaged over the ranks. Their weights, optimizer and tau are stored in the
    checkpoint under 'mdat', and restored when a run is resumed, never when weights are only loaded.

    Every ``log_interval`` iterations the batch's tau, classifier errors and the shares of pixels and of images (by the
    mean over their pixels) whose domain they tell rightly are logged as ``mdat/tau``, ``mdat/feature_error``,
    ``mdat/feature_accuracy``, ``mdat/feature_image_accuracy``, and so on, and the standard deviation of the features
    that :math:`D_f` judges as ``mdat/feature_std``.

    Args:
        feature_classifier (dict, optional): :math:`D_f`, a model that takes ``features``; none by default.
        output_classifier (dict, optional): :math:`D_o`, a model that takes the anomaly probability, one channel;
            none by default.
        feature_weight (float): :math:`\lambda_f`. Defaults to 0.04.
        output_weight (float): :math:`\lambda_o`. Defaults to 0.06.
        tau_base (float): :math:`\tau_b` of eq. 1, in [0.5, 1]. Defaults to 1.
        dynamic_label (bool): Whether tau follows eq. 1; otherwise it stays ``tau_base``. Defaults to True.
        optimizer (dict): Optimizer of the classifiers, with its ``lr``. Defaults to Adam with 1e-4.
        adversarial_loss (dict): What the segmentor minimises. Defaults to MultiSourceAdversarialLoss.
        classifier_loss (dict): What the classifiers minimise. Defaults to DomainClassifierLoss.
        valid_only (bool): Whether only positions count whose label is not 255 (that of the pixel whose centre is
            nearest), for both sides and in the log. The losses get them as a fourth argument. Defaults to False.
        log_interval (int): Iterations between two entries of the log. Defaults to 10.

    Raises:
        ValueError: If there is no classifier, or an option is outside its range.
        TypeError: When training starts, if the segmentor has no ``set_alignment``, or the optimizer wrapper is one
            that cannot be mirrored.
    """

    def __init__(self,
                 feature_classifier: OptConfigType = None,
                 output_classifier: OptConfigType = None,
                 feature_weight: float = 0.04,
                 output_weight: float = 0.06,
                 tau_base: float = 1.0,
                 dynamic_label: bool = True,
                 optimizer: ConfigType = dict(type='Adam', lr=1e-4),
                 adversarial_loss: ConfigType = dict(type='MultiSourceAdversarialLoss'),
                 classifier_loss: ConfigType = dict(type='DomainClassifierLoss'),
                 valid_only: bool = False,
                 log_interval: int = 10) -> None:
        classifiers = dict(feature=feature_classifier, output=output_classifier)
        self.classifiers = {stage: cfg for stage, cfg in classifiers.items() if cfg is not None}
        if not self.classifiers:
            raise ValueError('feature_classifier or output_classifier must be given; a run without domain classifiers '
                             'needs no MDATHook')
        self.weights = dict(feature=feature_weight, output=output_weight)
        for stage, weight in self.weights.items():
            if not weight >= 0:
                raise ValueError(f'{stage}_weight must be at least 0, got {weight}')
        if not 0.5 <= tau_base <= 1:
            raise ValueError(f'tau_base must be in [0.5, 1], got {tau_base}')
        if 'type' not in optimizer or 'lr' not in optimizer:
            raise ValueError(f"optimizer must have a 'type' and an 'lr', got {dict(optimizer)}")
        if log_interval < 1:
            raise ValueError(f'log_interval must be at least 1, got {log_interval}')
        self.tau_base = tau_base
        self.dynamic_label = dynamic_label
        self.optimizer = optimizer
        self.losses = dict(adversarial=adversarial_loss, classifier=classifier_loss)
        self.valid_only = valid_only
        self.log_interval = log_interval
        self.tau = tau_base
        self.discriminators: nn.ModuleDict | None = None
        self.optim_wrapper: OptimWrapper | None = None
        self._pending: tuple[dict[str, Tensor], list[int], Tensor | None] | None = None

    def __deepcopy__(self, memo: dict) -> 'MDATHook':
        """Return the hook itself: a copy of the aligned model (such as its moving average) gets no second one."""
        return self

    # Life of the hook

    def before_run(self, runner: Runner) -> None:
        """Build the classifiers for a training run and hand the segmentor its adversarial losses."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):  # still a config: the run only tests
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'set_alignment'):
            raise TypeError(f'MDATHook needs a model with set_alignment(fn), such as an AnomalySegmentor; '
                            f'{type(model).__name__} has none')
        if self.discriminators is None:
            self._build(runner, next(model.parameters()).device)
        self.attach(model)

    def attach(self, model: nn.Module) -> None:
        """Hand a segmentor its adversarial losses."""
        model.set_alignment(self.adversarial_losses, **(dict(reads_target=True) if self.valid_only else {}))

    def before_train(self, runner: Runner) -> None:
        """Start counting where the run starts, after it was resumed."""
        self.optim_wrapper.initialize_count_status(self.discriminators, runner.iter, runner.max_iters)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the domain label of the iteration (eq. 1)."""
        if self.dynamic_label:
            progress = runner.message_hub.get_info('iter') / runner.message_hub.get_info('max_iters')
            self.tau = self._domain_label(progress, self.tau_base)

    def adversarial_losses(self,
                           taps: dict[str, Tensor],
                           domains: list[int],
                           target: Tensor | None = None) -> dict[str, Tensor]:
        """Adversarial losses of the segmentor, weighted, keyed 'loss_mda_feature' and 'loss_mda_output'.

        ``taps``: ``features`` (N, C, h, w) and ``anomaly_logit`` (N, 1, h, w), with their graph. ``domains``: N ints.
        ``target``: int (N, H, W), needed with ``valid_only``.

        Raises:
            ValueError: If ``valid_only`` is set and there is no target.
        """
        if self.valid_only and target is None:
            raise ValueError('MDATHook(valid_only=True) needs the target of the batch: hand its adversarial_losses to '
                             'set_alignment with reads_target=True')
        readers = dict(feature=lambda: taps['features'], output=lambda: _probability(taps['anomaly_logit']))
        inputs = {stage: readers[stage]() for stage in self.discriminators}
        valid = target != IGNORE if self.valid_only else None
        self._pending = {stage: feats.detach() for stage, feats in inputs.items()}, list(domains), valid
        losses = {}
        for stage, feats in inputs.items():
            pred = self.discriminators[stage](feats)
            loss = self._adversarial_loss(pred, domains, self.tau, *_valid_like(pred, valid))
            losses[f'loss_mda_{stage}'] = self.weights[stage] * loss
        return losses

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Let the classifiers learn from the iteration's taps."""
        if self._pending is None:
            raise RuntimeError('the model did not call its alignment in this iteration: set_alignment(fn) must add '
                               "fn(taps, domains) to the losses of forward(mode='loss')")
        (inputs, domains, valid), self._pending = self._pending, None
        with self._unfrozen():
            with self.optim_wrapper.optim_context(self.discriminators):
                preds = {stage: self.discriminators[stage](feats) for stage, feats in inputs.items()}
                errors = {
                    stage: self._classifier_loss(pred, domains, self.tau, *_valid_like(pred, valid))
                    for stage, pred in preds.items()
                }
            self.optim_wrapper.backward(self.optim_wrapper.scale_loss(sum(errors.values())))
            if self.optim_wrapper.should_update():
                self._average_gradients()
                self._follow_schedule(runner)
                self.optim_wrapper.step()
                self.optim_wrapper.zero_grad()
        if self.every_n_train_iters(runner, self.log_interval):
            self._log(runner, preds, errors, domains, valid)
            if 'feature' in inputs:
                runner.message_hub.update_scalar('train/mdat/feature_std', inputs['feature'].float().std())

    def after_run(self, runner: Runner) -> None:
        """Leave the model as it was found."""
        if self.discriminators is not None:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            model.set_alignment(None)

    # Checkpoints

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the classifiers, their optimizer and tau as tensors, numbers, lists and dicts."""
        if self.discriminators is None:
            return
        states = {stage: dict(module.state_dict()) for stage, module in self.discriminators.items()}
        for stage, weights in states.items():
            if not all(tensor.isfinite().all() for tensor in weights.values()):
                raise ValueError(f'the weights of {stage}_classifier are not finite at iteration {runner.iter}; resume '
                                 'from an earlier checkpoint with a lower lr in default_hooks.mdat.optimizer')
        checkpoint[CHECKPOINT_KEY] = _on_cpu(
            dict(discriminators=states, optimizer=self.optim_wrapper.state_dict(), tau=float(self.tau)))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the state if the run is resumed."""
        if self.discriminators is None or not runner._resume:
            return
        if CHECKPOINT_KEY not in checkpoint:
            raise ValueError(f"the checkpoint has no '{CHECKPOINT_KEY}', so MDATHook cannot resume it: resume "
                             'one that was saved with the hook, or start a new run from its weights with load_from')
        state = checkpoint[CHECKPOINT_KEY]
        saved = {stage: _shapes(weights) for stage, weights in state['discriminators'].items()}
        present = {stage: _shapes(module.state_dict()) for stage, module in self.discriminators.items()}
        if saved != present:
            raise ValueError(f"'{CHECKPOINT_KEY}' of the checkpoint holds other domain classifiers than this run: "
                             f'{saved} is not {present}')
        for stage, module in self.discriminators.items():
            module.load_state_dict(state['discriminators'][stage])
        self.optim_wrapper.load_state_dict(_on_cpu(state['optimizer']))
        if self.dynamic_label:
            self.tau = state['tau']

    # Pieces

    def _build(self, runner: Runner, device: torch.device) -> None:
        """Build classifiers that are the same on every rank, without touching the run's random numbers."""
        self._domain_label = FUNCTIONS.get('dynamic_domain_label')
        self._adversarial_loss, self._classifier_loss = (MODELS.build(cfg) for cfg in self.losses.values())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(runner.seed)
            self.discriminators = nn.ModuleDict({stage: MODELS.build(cfg) for stage, cfg in self.classifiers.items()})
            for module in self.discriminators.values():
                if hasattr(module, 'init_weights'):
                    module.init_weights()
        self.discriminators.to(device)
        for tensor in self.discriminators.state_dict().values():
            dist.broadcast(tensor)
        optimizer = OPTIMIZERS.build(dict(self.optimizer, params=list(self.discriminators.parameters())))
        self._base_lrs = [group['lr'] for group in optimizer.param_groups]
        self.optim_wrapper = _mirror(runner.optim_wrapper, optimizer)
        self.discriminators.requires_grad_(False)
        self._run_lrs = [group.get('initial_lr', group['lr']) for group in runner.optim_wrapper.param_groups]
        auto_scale = runner.auto_scale_lr or {}
        self._lr_scale = 1.
        if auto_scale.get('enable', False):
            batch_size = runner.world_size * runner.train_dataloader.batch_size
            self._lr_scale = batch_size / auto_scale['base_batch_size']

    @contextmanager
    def _unfrozen(self) -> Iterator[None]:
        self.discriminators.requires_grad_(True)
        try:
            yield
        finally:
            self.discriminators.requires_grad_(False)

    def _average_gradients(self) -> None:
        """Replace the gradients by their mean over the ranks, in one transfer."""
        grads = [param.grad for param in self.discriminators.parameters() if param.grad is not None]
        dist.all_reduce_params(grads, op='mean')

    def _follow_schedule(self, runner: Runner) -> None:
        """Scale the learning rates as the run's are, by its schedule and its automatic scaling."""
        factor = self._lr_scale
        for group, run_lr in zip(runner.optim_wrapper.param_groups, self._run_lrs):
            initial = group.get('initial_lr', run_lr)
            if initial > 0:
                factor = self._lr_scale * group['lr'] / initial
                break
        for group, lr in zip(self.optim_wrapper.param_groups, self._base_lrs):
            group['lr'] = lr * factor

    @torch.no_grad()
    def _log(self,
             runner: Runner,
             preds: dict[str, Tensor],
             errors: dict[str, Tensor],
             domains: list[int],
             valid: Tensor | None = None) -> None:
        runner.message_hub.update_scalar('train/mdat/tau', self.tau)
        for stage, pred in preds.items():
            is_void_class = torch.tensor(domains, device=pred.device).view(-1, 1, 1, 1) == 0
            counts = next(iter(_valid_like(pred, valid)), torch.ones_like(pred)).float()
            image_counts = counts.sum(dim=(1, 2, 3), keepdim=True)
            image_pred = (pred.float() * counts).sum(dim=(1, 2, 3), keepdim=True) / image_counts.clamp(min=1)
            runner.message_hub.update_scalar(f'train/mdat/{stage}_error', errors[stage])
            for level, values, weights in (('', pred, counts), ('image_', image_pred, (image_counts > 0).float())):
                right = (values > 0.5) == is_void_class
                accuracy = (right * weights).sum() / weights.sum().clamp(min=1)
                runner.message_hub.update_scalar(f'train/mdat/{stage}_{level}accuracy', accuracy)


def _probability(anomaly_logit: Tensor) -> Tensor:
    """Sigmoid of the logit, in single precision or better."""
    return anomaly_logit.to(torch.promote_types(anomaly_logit.dtype, torch.float32)).sigmoid()


def _valid_like(pred: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
    """The valid positions (N, H, W) at the size of ``pred`` (N, 1, h, w), as a tuple that is empty if all count."""
    if valid is None:
        return ()
    return resize_nearest(valid[:, None], tuple(pred.shape[-2:])),


def _mirror(wrapper: OptimWrapper, optimizer: torch.optim.Optimizer) -> OptimWrapper:
    """Wrap ``optimizer`` as the run's is wrapped, gradient clipping apart."""
    if isinstance(wrapper, (OptimWrapperDict, ApexOptimWrapper)):
        raise TypeError('MDATHook mirrors an optim_wrapper of the type OptimWrapper or AmpOptimWrapper, got '
                        f'{type(wrapper).__name__}')
    options: dict[str, Any] = dict(optimizer=optimizer, accumulative_counts=wrapper._accumulative_counts)
    if isinstance(wrapper, AmpOptimWrapper):
        scaler = wrapper.loss_scaler
        if wrapper._scale_update_param is not None:
            loss_scale = wrapper._scale_update_param
        elif scaler.is_enabled():
            loss_scale = dict(
                init_scale=scaler.get_scale(),
                growth_factor=scaler.get_growth_factor(),
                backoff_factor=scaler.get_backoff_factor(),
                growth_interval=scaler.get_growth_interval())
        else:
            loss_scale = dict(enabled=False)
        options.update(loss_scale=loss_scale, dtype=wrapper.cast_dtype)
    return type(wrapper)(**options)


def _on_cpu(state: dict) -> dict:
    return apply_to(state, lambda value: isinstance(value, Tensor), lambda value: value.detach().cpu().clone())


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
