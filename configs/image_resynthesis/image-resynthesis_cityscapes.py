# Image Resynthesis (Lis et al., ICCV 2019), Adam 1e-4, 50 epochs. Departure: the learning rate falls polynomially; there
# it falls when the validation loss stalls.
_base_ = [
    '../_base_/models/discrepancy_vgg16.py', '../_base_/datasets/swapped_cityscapes.py',
    '../_base_/datasets/anomaly_benchmarks.py', '../_base_/schedules/mgcda_50e.py', '../_base_/default_runtime.py'
]
train_cfg = dict(val_interval=50)
tta_pipeline = _base_.flip_pipeline
val_dataloader = _base_.test_dataloader
val_evaluator = dict(type='AnomalyMetric')
auto_scale_lr = dict(base_batch_size=2)
