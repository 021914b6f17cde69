"""Images of any suffix with the XML files of VOC, for MMDetection."""

import os
from pathlib import Path

from mmdet.datasets import XMLDataset
from mmdet.registry import DATASETS

from pixcon_mm.datasets.listing import images_by_stem
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line


@DATASETS.register_module()
class XMLFolderDataset(XMLDataset):
    """Images of any suffix with an XML file of boxes each, as VOC has them.

    Takes the arguments of MMDetection's ``XMLDataset``, which reads ``.jpg``
    alone.
    """

    def load_data_list(self) -> list[dict]:
        """List the images that ``ann_file`` names."""
        self._images = self._find_images()
        return super().load_data_list()

    def image_names(self, ids: list[str]) -> list[str]:
        """Return names of image files; ``.jpg`` for those that are missing."""
        images = self._find_images()
        return [images.get(name, f'{name}.jpg') for name in ids]

    def parse_data_info(self, img_info: dict) -> dict | list[dict]:
        """Read the XML of an image.

        Raises:
            UserError: If there is no such image.
        """
        name = img_info['img_id']
        if name not in self._images:
            raise UserError(
                f'{as_line(self.ann_file)} lists {name}, but there is no '
                f'image of that name in '
                f'{as_line(Path(self.sub_data_root, self.img_subdir))}.'
            )
        path = os.path.join(self.img_subdir, self._images[name])
        return super().parse_data_info(dict(img_info, file_name=path))

    def _find_images(self) -> dict[str, str]:
        return images_by_stem(str(Path(self.sub_data_root, self.img_subdir)))
