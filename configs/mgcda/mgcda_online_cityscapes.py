# Composites and maps made during training instead of read from disk: nothing to prepare and fresh composites in every
# epoch, for the frozen networks' forward pass in every step. Maps are made of the flipped image.
_base_ = '../mgcda_cityscapes.py'
load = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')]
pack = [dict(type='RandomFlip', prob=0.5), dict(type='PackDissimilarityInputs')]
paste = dict(type='PasteObjects', num_objects=1, scale='own', flip_prob=0.0)
objects = dict(
    data_root='data/coco/', ann_file='annotations/instances_train2017.json', img_path='train2017', unit='image')
void_class = dict(type='VoidClassDataset', data_root='data/cityscapes/', pipeline=load + pack)
anomaly_mix = dict(
    type='AnomalyMixDataset', data_root='data/cityscapes/', objects=objects, pipeline=load + [paste] + pack)
train_dataloader = dict(dataset=dict(datasets=[void_class, anomaly_mix]))
