# Image Resynthesis (Lis et al., ICCV 2019) on the toy streets, with the generator of pix2pixHD.
_base_ = './image-resynthesis-pp.py'
swapped = dict(
    data_prefix=dict(img_path='cityscapes/leftImg8bit/train', seg_map_path='swapped_pix2pixhd/labels'),
    maps_root='data/toy/swapped_pix2pixhd')
train_dataloader = dict(dataset=dict(datasets=[dict(_base_.swapped, **swapped)]))
model = dict(
    frozen=dict(generator=dict(config='configs/toy/pix2pixhd.py', checkpoint='work_dirs/toy/pix2pixhd/iter_200.pth')))
