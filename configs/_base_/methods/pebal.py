# PEBAL (Tian et al., ECCV 2022): a class of abstention, whose price is the energy. Leaves say which layers are tuned.
method = dict(
    type='AnomalySegmentor',
    score='pebal',
    outlier_head=dict(num_logits=1),
    decode_head=dict(loss_decode=[dict(type='PEBALLoss')]))
