# Maximum entropy as in the authors' code (meta-OoD): Adam 1e-5 throughout one epoch of 3272 images, of which one in eleven
# (here: in eight) is a whole image of COCO, nothing pasted, of a pool of 297 that show nothing of Cityscapes' classes. The
# pixels of its objects are the outliers; all others are trained as road, train id 0. Both losses are divided by the number
# of all pixels and classes.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/max_entropy.py']
method = dict(
    decode_head=dict(
        loss_decode=[
            dict(type='PixelCrossEntropyLoss', loss_weight=0.1, reduction='all_pixels'),
            dict(type='MaxEntropyLoss', loss_weight=0.9, reduction='all_pixels')
        ]))
param_scheduler = []
train_cfg = dict(max_iters=409)
train_dataloader = dict(
    sampler=dict(num_per_domain=(7, 1)),
    dataset=dict(
        datasets=[
            _base_.plain,
            dict(
                _base_.negatives,
                background=0,
                objects=dict(ann_file=_base_.objects.ann_file, unit='image', pool_size=297))
        ]))
