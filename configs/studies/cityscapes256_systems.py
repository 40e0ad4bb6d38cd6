# The systems that the ablation's rows are compared with, on the same small data: those that tune the segmenter, Image
# Resynthesis and SynBoost. The steps of cityscapes256.py, and what these need beside; the ego vehicle (id 1) is normal,
# as there. docs/study.md.
_base_ = './cityscapes256.py'
_folder = _base_._folder
_segmenter = _base_._segmenter
_make_swapped_maps = 'tools/dataset_converters/make_swapped_maps.py'
steps = [
    *_base_.steps,
    dict(name='pix2pixHD', train=f'{_folder}/pix2pixhd.py'),
    [
        dict(name='swapped classes, pix2pixHD', command=f'{_make_swapped_maps} {_folder}/image-resynthesis.py '
             'data/cityscapes256 data/swapped/cityscapes256_pix2pixhd/train --normal-ids 1'),
        dict(name='swapped classes, SPADE', command=f'{_make_swapped_maps} {_folder}/image-resynthesis-pp.py '
             'data/cityscapes256 data/swapped/cityscapes256/train --normal-ids 1')
    ],
    dict(name='swapped classes of SynBoost', command=f'{_make_swapped_maps} {_folder}/synboost.py '
         'data/cityscapes256 data/swapped/cityscapes256_synboost/train --recipe synboost '
         '--normal-ids 1')
]
rows = [
    dict(name='MC dropout', config=f'{_folder}/mc-dropout.py', checkpoint=_segmenter),
    dict(name='Ensemble', config=f'{_folder}/ensemble.py', checkpoint=_segmenter),
    dict(name='Void class', config=f'{_folder}/void-class.py'),
    dict(name='Maximum entropy', config=f'{_folder}/max-entropy.py'),
    dict(name='Outlier Head', config=f'{_folder}/outlier-head.py'),
    dict(name='Outlier Head, negative images', config=f'{_folder}/outlier-head-negatives.py'),
    dict(name='Dirichlet', config=f'{_folder}/dirichlet.py'),
    dict(name='PEBAL', config=f'{_folder}/pebal.py'),
    dict(name='DenseHybrid', config=f'{_folder}/dense-hybrid.py'),
    dict(name='GMMSeg', config=f'{_folder}/gmmseg.py'),
    dict(name='Image Resynthesis', config=f'{_folder}/image-resynthesis.py'),
    dict(name='Image Resynthesis++ (SPADE)', config=f'{_folder}/image-resynthesis-pp.py'),
    dict(name='SynBoost', config=f'{_folder}/synboost.py', checkpoint='best')
]
metrics = ['AP', 'FPR95', 'AUROC', 'mIoU']
