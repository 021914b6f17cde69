"""Data set of all images in folders, without labels or annotation files."""

from collections.abc import Sequence

import torch
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

from pixcon_mm.datasets.listing import (
    list_images,
    read_list,
    readable_suffixes,
)
from pixcon_mm.datasets.loading import BrokenImageError
from pixcon_mm.errors import UserError
from pixcon_mm.wording import counted

ADVICE = """
Any folder of images will do, subfolders included; for COCO:
  data/coco/
  └── train2017/
      ├── 000000000009.jpg
      └── ...
To use another folder, add --cfg-options data_root=/path/to/images"""


@DATASETS.register_module()
class SceneImageDataset(BaseDataset):
    """All images of one or several folders and their subfolders.

    Images that cannot be decoded are replaced by others and marked in
    ``broken``, a uint8 tensor with one element per image. It is in shared
    memory, so that the main process sees the marks of its workers.
    ``SceneDatasetHook`` reports them. Random numbers come from the usual
    generators, which ``ReproducibleResumeHook`` seeds for each sample.

    Args:
        data_root (str | list[str]): Folders to list. Symbolic links are
            followed, names that start with a dot are not.
        pipeline (list[dict]): Transforms, beginning with ``LoadSceneImage``.
        ann_file (str): Text file that lists the images to use, one per line,
            instead of all; see :func:`read_list`. This path and those in the
            file are relative to ``data_root``, or absolute.
        extensions (str | Sequence[str], optional): Suffixes of image files,
            in any case; None for all that can be decoded here.
        indices (int | Sequence[int], optional): Indices of the images to
            keep, or the number of images to keep from the start; None for
            all.
        max_refetch (int): Number of other images to try, in a row, when the
            pipeline returns None.
    """

    METAINFO = dict(task_name='two-view pre-training')

    def __init__(
        self,
        data_root: str | list[str],
        pipeline: list[dict],
        ann_file: str = '',
        extensions: str | Sequence[str] | None = None,
        indices: int | Sequence[int] | None = None,
        max_refetch: int = 1000,
    ):
        is_list = data_root and isinstance(data_root, list | tuple)
        self.folders: list = [*data_root] if is_list else [data_root]
        if ann_file and len(self.folders) > 1:
            raise UserError(
                f'ann_file={ann_file!r} lists images of one data_root, and '
                f'{len(self.folders)} are given: name the folder that holds '
                'them all.'
            )
        if isinstance(extensions, str):  # a single one on the command line
            extensions = [extensions]
        self.extensions = tuple(
            '.' + extension.lower().lstrip('.')
            for extension in extensions or readable_suffixes()
        )
        super().__init__(
            ann_file=ann_file,
            data_root=self.folders[0] if ann_file else data_root,
            data_prefix={},
            pipeline=pipeline,
            indices=indices,
            max_refetch=max_refetch,
        )

    def full_init(self) -> None:
        """List the folders; no image is known to be broken yet."""
        if not self._fully_initialized:
            super().full_init()
            self._forget_broken()

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep some images only."""
        super().get_subset_(indices)
        self._forget_broken()

    def get_subset(self, indices: int | Sequence[int]) -> 'SceneImageDataset':
        """Return a copy with some images only."""
        subset = super().get_subset(indices)
        subset._forget_broken()
        return subset

    def _forget_broken(self) -> None:
        self.broken = torch.zeros(len(self), dtype=torch.uint8)
        self.share_memory()

    def share_memory(self) -> None:
        """Let loader workers that start after this call mark broken images."""
        self.broken.share_memory_()

    def load_data_list(self) -> list[dict]:
        """List the images of the list, or else of all folders."""
        if self.ann_file:
            paths = read_list(self.ann_file, self.data_root or '')
        else:
            visited: set[str] = set()
            paths = [
                path
                for folder in self.folders
                for path in list_images(
                    folder, self.extensions, visited, ADVICE
                )
            ]
        if isinstance(self._indices, Sequence):
            for index in self._indices:
                if not -len(paths) <= index < len(paths):
                    raise UserError(
                        f'SceneImageDataset: indices has {index}, and there '
                        f'are only {counted(len(paths), "image")}.'
                    )
        return [dict(img_path=path) for path in paths]

    def broken_paths(self) -> list[str]:
        """Return the paths of the images known to be broken."""
        indices = self.broken.nonzero().flatten().tolist()
        return [self.get_data_info(i)['img_path'] for i in indices]

    def __getitem__(self, idx: int) -> dict:
        """Return the sample of an image, or of another one if it fails.

        Raises:
            UserError: If no image is left to fetch.
        """
        self.full_init()
        # An index may count from the end of the list, as in any sequence.
        idx = range(len(self))[idx]
        folders = ', '.join(repr(str(folder)) for folder in self.folders)
        refused = 0
        while refused <= self.max_refetch:
            if not self.broken[idx]:
                sample = self.prepare_data(idx)
                if sample is not None:
                    return sample
                # None for an image that is not broken: the pipeline found no
                # two crops of it.
                refused += not self.broken[idx]
            if self.broken.all():
                raise UserError(
                    f'None of the {len(self)} images in {folders} can be '
                    'read (the last was '
                    f'{self.get_data_info(idx)["img_path"]!r}): check that '
                    'the files are complete images.'
                )
            # Chosen from all images, the broken ones included: otherwise the
            # replacement would depend on which ones were found so far.
            idx = self._rand_another()
        raise UserError(
            f'{refused} images in a row from {folders} gave no two '
            'overlapping crops, as happens with long, narrow images: set '
            "on_no_overlap='center' in TwoViewRandomResizedCrop."
        )

    def prepare_data(self, idx: int) -> dict | None:
        """Run the pipeline; return None for a broken or refused image."""
        try:
            return super().prepare_data(idx)
        except BrokenImageError:
            self.broken[idx] = 1
            return None
