# Logistic regression on the NLLs of the layers, with void pixels as outliers (Blum et al., IJCV 2021). The file that is
# fitted for the minimum serves here, too.
_base_ = './minimum-nll_deeplabv3plus_r101-d8.py'
model = dict(score=dict(combine='logistic_regression'))
