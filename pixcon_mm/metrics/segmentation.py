"""MMSegmentation's metric with the values of each class."""

import numpy as np
from mmseg.evaluation.metrics import IoUMetric


class PerClassIoUMetric(IoUMetric):
    """IoU and accuracy, as means and for each class.

    The arguments are those of MMSegmentation's IoUMetric.

    Attributes:
        per_class (dict[str, dict[str, float]]): ``IoU``, ``Acc`` and other
            metrics named in ``iou_metrics``, by class, in percent; NaN for a
            class that is neither in the truth nor in the prediction.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images; see IoUMetric."""
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        areas = [sum(area) for area in zip(*results, strict=True)]
        values = self.total_area_to_metrics(
            *areas, self.metrics, self.nan_to_num, self.beta
        )
        values.pop('aAcc')
        self.per_class = {
            name: dict(
                zip(
                    self.dataset_meta['classes'],
                    np.round(100 * by_class.astype(float), 2).tolist(),
                    strict=True,
                )
            )
            for name, by_class in values.items()
        }
        return metrics
