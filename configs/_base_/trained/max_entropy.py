# Maximum entropy as in the authors' code: Adam 1e-5 throughout one epoch of 3272 images, of which one in eleven (here: in
# eight) is of COCO. The pixels of its objects are the outliers.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/max_entropy.py']
param_scheduler = []
train_cfg = dict(max_iters=409)
train_dataloader = dict(
    sampler=dict(num_per_domain=(7, 1)),
    dataset=dict(
        datasets=[
            _base_.plain,
            dict(_base_.negatives, objects=dict(ann_file=_base_.objects.ann_file, min_area=1))
        ]))
