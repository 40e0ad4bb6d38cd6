# ReAct (Sun et al., NeurIPS 2021) with the energy, over the DeepLabV3+ of the model zoo.
_base_ = './sml_deeplabv3plus_r101-d8.py'
model = dict(
    score=dict(
        _delete_=True,
        type='ReAct',
        fitted='work_dirs/deeplabv3plus/react.pth'))
