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
        self._images = self.find_images()
        return super().load_data_list()

    def find_images(self) -> dict[str, str]:
        """Find all images; return their paths by names without suffix."""
        return images_by_stem(str(Path(self.sub_data_root, self.img_subdir)))

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
