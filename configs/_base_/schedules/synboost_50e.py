# SynBoost's public code (Di Biase et al., CVPR 2021): Adam 1e-4 with betas of 0.5 and 0.999, 50 epochs of batches of 4;
# halved when the loss on Fishyscapes Static has not fallen for 10 epochs.
max_epochs = 50
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4, betas=(0.5, 0.999)))
param_scheduler = [
    dict(type='ReduceOnPlateauLR', monitor='FS_Static/cross_entropy', rule='less', factor=0.5, patience=10)
]
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=True, base_batch_size=4)
