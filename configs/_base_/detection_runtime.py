"""Scope, visualiser and precise batch norm of every detector's fine-tuning.

Source: docs/method.md, section 10.1.
"""

_base_ = './finetune_runtime.py'
default_scope = 'mmdet'
custom_hooks = [dict(type='PreciseBatchNormHook', num_batches=200)]
visualizer = dict(type='DetLocalVisualizer')
