# Cityscapes' training images as in testing, with their class labels: for tools/fit_scores.py.
fit_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='LabelIdToTrainId'),
    dict(type='PackSegInputs')
]
fit_dataloader = dict(
    batch_size=1,
    num_workers=4,
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        img_suffix='_leftImg8bit.png',
        seg_map_suffix='_gtFine_labelIds.png',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=fit_pipeline))
