# Image Resynthesis++ (Blum et al., IJCV 2021): as Image Resynthesis, with a better generator. Here that is the SPADE
# generator of configs/spade.
_base_ = './image-resynthesis_cityscapes.py'
swapped = dict(
    data_prefix=dict(img_path='cityscapes/leftImg8bit/train', seg_map_path='swapped/cityscapes_spade/train/labels'),
    maps_root='data/swapped/cityscapes_spade/train')
train_dataloader = dict(dataset=dict(datasets=[dict(_base_.swapped, **swapped)]))
model = dict(
    frozen=dict(
        generator=dict(
            config='configs/spade/spade_cityscapes-256x512.py',
            checkpoint='checkpoints/spade_cityscapes-256x512.pth'),
        generator_size=(256, 512)))
