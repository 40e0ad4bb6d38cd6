# OoD training, "void as class C + 1" (Blum et al., IJCV 2021): outliers are a class of their own.
method = dict(
    type='AnomalySegmentor',
    score='void_class',
    outlier_head=dict(num_logits=1),
    decode_head=dict(loss_decode=[dict(type='PixelCrossEntropyLoss', outliers='last_class')]))
