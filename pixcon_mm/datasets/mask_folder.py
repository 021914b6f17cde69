"""Images of any suffix with masks, for MMSegmentation."""

import os
from collections.abc import Sequence
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from pixcon_mm.datasets.labels.mask_values import mask_labels
from pixcon_mm.datasets.listing import OPENCV_SUFFIXES, images_by_stem
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line


@DATASETS.register_module()
class MaskFolderDataset(BaseSegDataset):
    """Images of any suffix, and a PNG mask of the same name for each.

    Args:
        mask_values (Sequence[int], optional): Grey value of each class, in
            their order; other values are ignored, as 255 is. None if the
            values are the numbers of the classes, 0, 1, 2, ...
        img_suffix (None): Not used, any image counts.
        **kwargs: Arguments of MMSegmentation's ``BaseSegDataset``, except
            ``ann_file``.
    """

    def __init__(
        self,
        mask_values: Sequence[int] | None = None,
        img_suffix: None = None,
        **kwargs: Any,
    ):
        self.mask_values = mask_values
        super().__init__(img_suffix=img_suffix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their masks.

        Raises:
            UserError: If there are no images, the number of values is not
                that of the classes, ``reduce_zero_label`` is set beside them,
                or ``ann_file`` lists the images.
        """
        if self.ann_file:
            raise UserError(
                'MaskFolderDataset takes all images of a folder, so it cannot '
                f'use the list {as_line(self.ann_file)}: put the images of '
                'training and validation into folders of their own, or use '
                "type='BaseSegDataset' with img_suffix."
            )
        if self.mask_values is not None and self.reduce_zero_label:
            raise UserError(
                'MaskFolderDataset has mask_values and reduce_zero_label=True,'
                ' which would shift them by one: leave reduce_zero_label out.'
            )
        classes = self.metainfo['classes']
        self.label_map = mask_labels(self.mask_values, classes)
        images, masks = (
            self.data_prefix[key] for key in ('img_path', 'seg_map_path')
        )
        found = images_by_stem(images)
        if not found:
            raise UserError(
                f'{as_line(images)} has no image (a file that ends in '
                f'{", ".join(OPENCV_SUFFIXES)}).'
            )
        return [
            dict(
                img_path=os.path.join(images, path),
                seg_map_path=os.path.join(masks, stem + self.seg_map_suffix),
                label_map=self.label_map,
                reduce_zero_label=self.reduce_zero_label,
                seg_fields=[],
            )
            for stem, path in found.items()
        ]
