# DenseHybrid on the 256x256 Cityscapes: pasted negatives.
_base_ = ['../../_base_/tuned_cityscapes256.py', '../../_base_/methods/dense_hybrid.py']
model = _base_.method
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[_base_.single_objects]))
