# Image Resynthesis (Lis et al., ICCV 2019) on the 256x256 Cityscapes, with the generator of pix2pixHD.
_base_ = './image-resynthesis-pp.py'
swapped = dict(
    data_prefix=dict(
        img_path='cityscapes256/leftImg8bit/train', seg_map_path='swapped/cityscapes256_pix2pixhd/train/labels'),
    maps_root='data/swapped/cityscapes256_pix2pixhd/train')
train_dataloader = dict(dataset=dict(datasets=[dict(_base_.swapped, **swapped)]))
model = dict(
    frozen=dict(
        generator=dict(
            config='configs/studies/cityscapes256/pix2pixhd.py',
            checkpoint='work_dirs/cityscapes256/pix2pixhd/iter_800.pth')))
