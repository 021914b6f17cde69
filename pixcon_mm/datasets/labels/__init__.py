"""Label check: mistakes in the labels of detection and segmentation."""

from pixcon_mm.datasets.labels.check import check_labels, find_problems

__all__ = ['check_labels', 'find_problems']
