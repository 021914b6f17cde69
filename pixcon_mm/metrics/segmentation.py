"""MMSegmentation's metric with the values of each class."""

import numpy as np
from mmseg.evaluation.metrics import IoUMetric
from torch import Tensor


class PerClassIoUMetric(IoUMetric):
    """IoU and accuracy, as means and for each class.

    The arguments are those of MMSegmentation's IoUMetric.

    Attributes:
        per_class (dict[str, dict[str, float]]): ``IoU``, ``Acc`` and other
            metrics named in ``iou_metrics``, by class, in percent; NaN for a
            class that is neither in the truth nor in the prediction.
    """

    @staticmethod
    def intersect_and_union(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Count the pixels of each class in an image.

        MMSegmentation counts in float32, where adding 1 changes nothing from
        2^24 on: the sky of a photograph of 24 megapixels may have more pixels.

        Args:
            pred_label (Tensor): Predicted classes. Shape (H, W).
            label (Tensor): True classes. Shape (H, W).
            num_classes (int): Number of classes C.
            ignore_index (int): Value of true pixels that are left out.

        Returns:
            tuple[Tensor, Tensor, Tensor, Tensor]: Intersection, union,
            predicted and true pixels of each class, float64, on the CPU.
            Shape (C, ) each.
        """

        def count(classes: Tensor) -> Tensor:
            is_class = (classes >= 0) & (classes < num_classes)
            found = classes[is_class].long().bincount(minlength=num_classes)
            return found.cpu().double()

        is_used = label != ignore_index
        predicted, true = pred_label[is_used], label[is_used]
        intersection = count(true[predicted == true])
        predicted_area, true_area = count(predicted), count(true)
        union = predicted_area + true_area - intersection
        return intersection, union, predicted_area, true_area

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
