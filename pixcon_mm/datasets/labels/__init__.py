"""A look at the labels of detection and segmentation before a run."""

from pixcon_mm.datasets.labels.look import check_labels, look_at

__all__ = ['check_labels', 'look_at']
