# For the segmenter of the toy streets.
_base_ = './mgcda.py'
mdat = dict(
    feature_classifier=dict(in_channels=256),
    output_classifier=dict(channels=(8, 16, 32, 64)),
    optimizer=dict(lr=5e-4))  # the rate of the network
cacl = dict(projector=dict(in_channels=64))
