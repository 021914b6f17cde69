"""Scope, visualiser and device of every segmentor's fine-tuning."""

_base_ = './finetune_runtime.py'
default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer', alpha=0.5)
env_cfg = dict(cudnn_benchmark=True)
