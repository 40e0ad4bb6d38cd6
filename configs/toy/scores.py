# All scores of one frozen segmenter, on the toy benchmarks. tools/fit_scores.py fits those that have statistics of the
# training images.
_base_ = './entropy.py'
fitted = 'work_dirs/toy/fitted/'
classifier_input = 'decode_head.conv_seg:input'
flow = dict(
    type='FlowNLL',
    layers=['backbone.layer2', 'backbone.layer3', 'backbone.layer4', classifier_input],
    num_steps=4,
    hidden_channels=64,
    num_iters=500,
    sample_size=20000,
    fitted=fitted + 'nll.pth')
model = dict(
    score=None,
    scores=[
        'msp', 'entropy', 'margin', 'max_logit', 'energy', 'ODIN',
        dict(type='ASH', name='ASH'),
        dict(type='ReAct', fitted=fitted + 'react.pth', name='ReAct'),
        dict(type='SML', fitted=fitted + 'sml.pth', name='SML'),
        dict(type='Mahalanobis', layer=classifier_input, fitted=fitted + 'mahalanobis.pth', name='Mahalanobis'),
        dict(type='KNN', layer=classifier_input, sample_size=5000, fitted=fitted + 'knn.pth', name='kNN'),
        dict(flow, layers=[classifier_input], fitted=fitted + 'single-layer-nll.pth', name='single-layer NLL'),
        dict(flow, combine='minimum', name='minimum NLL'),
        dict(flow, combine='maximum', name='maximum NLL'),
        dict(flow, combine='logistic_regression', name='logistic regression')
    ])
fit_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/toy/cityscapes',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
