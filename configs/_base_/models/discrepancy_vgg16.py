# The discrepancy network of "Detecting the Unexpected via Image Resynthesis" (Lis et al., ICCV 2019): features of a
# frozen VGG16, no uncertainty maps, no SPADE. Departures: the segmenter is a DeepLabV3+ of MMSegmentation's model zoo,
# not a PSPNet or a Bayesian SegNet trained on BDD100K; VGG16's weights are MMPreTrain's.
_base_ = './dissimilarity_vgg16.py'
model = dict(
    backbone=dict(frozen_stages=4),
    decode_head=dict(
        uncertainty=False,
        spade=False,
        semantic_padding='reflect',
        # 1 / ln(1.02 + share of the class), of the public code
        loss_decode=dict(class_weight=(1.45693524, 19.18586532))),
    frozen=dict(
        uncertainty=False,
        perceptual=None,
        generator=dict(
            config='configs/pix2pixhd/pix2pixhd_cityscapes-512x1024.py',
            checkpoint='checkpoints/pix2pixhd_cityscapes-512x1024.pth'),
        generator_size=(512, 1024)),
    work_size=(512, 1024))
