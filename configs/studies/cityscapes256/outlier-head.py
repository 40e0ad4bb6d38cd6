# Outlier Head on the 256x256 Cityscapes: negatives pasted into half of the images.
_base_ = ['../../_base_/tuned_cityscapes256.py', '../../_base_/methods/outlier_head.py']
model = _base_.method
train_dataloader = dict(dataset=dict(datasets=[_base_.plain, _base_.single_objects]))
