# PEBAL as in the authors' code: the last block alone is tuned, and one image in eleven (here: in eight) has objects pasted.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/pebal.py']
train_dataloader = dict(
    sampler=dict(num_per_domain=(7, 1)), dataset=dict(datasets=[_base_.plain, _base_.anomaly_mix]))
