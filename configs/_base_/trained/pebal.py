# PEBAL as in the authors' code: the last block alone is tuned, and one image in eleven (here: in eight) has objects pasted,
# of a pool of a tenth as many COCO images as there are streets.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/pebal.py']
anomaly_mix = dict(_base_.anomaly_mix, objects=dict(_base_.anomaly_mix.objects, pool_size=297))
train_dataloader = dict(
    sampler=dict(num_per_domain=(7, 1)), dataset=dict(datasets=[_base_.plain, anomaly_mix]))
