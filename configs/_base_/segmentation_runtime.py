"""What every segmentor's fine-tuning shares: scope, metric, device."""

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
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
