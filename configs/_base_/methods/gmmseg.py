# GMMSeg (Liang et al., NeurIPS 2022): Gaussian mixtures as the classifier. Leaves name the decode head. The score is how
# unlikely a pixel is under the class that explains it best.
method = dict(
    type='AnomalySegmentor', score='max_logit', decode_head=dict(loss_decode=[dict(type='PixelCrossEntropyLoss')]))
