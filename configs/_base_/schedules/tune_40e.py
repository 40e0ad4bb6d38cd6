# PEBAL's schedule (Tian et al., ECCV 2022), which tunes a trained segmenter: Adam 1e-5, polynomial of power 0.9, 40 epochs
# of 3272 images, those of Cityscapes and a tenth as many with outliers.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-5))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False)]  # ends with the run
train_cfg = dict(type='ResumableIterTrainLoop', max_iters=40 * 409, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=True, base_batch_size=8)
