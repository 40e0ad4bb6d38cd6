# For ESPNetv2 on the 256x256 Cityscapes. CACL compares what the last pyramid pooling reads, as the classifier reads 10
# channels only.
_base_ = './mgcda.py'
mdat = dict(
    feature_classifier=dict(in_channels=512),
    output_classifier=dict(channels=(8, 16, 32, 64), downsample=2),
    optimizer=dict(lr=5e-4))  # the rate of the network
cacl = dict(projector=dict(in_channels=32))
