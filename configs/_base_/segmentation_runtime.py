"""Scope, visualiser and device of every segmentor's fine-tuning."""

_base_ = './finetune_runtime.py'
default_scope = 'mmseg'
visualizer = dict(
    type='SegLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ],
)
env_cfg = dict(cudnn_benchmark=True)
