_base_ = './espnetv2_msp_road-anomaly.py'
model = dict(score='entropy')
