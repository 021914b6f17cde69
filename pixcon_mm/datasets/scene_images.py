"""Folders of images, without labels, without annotation files."""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

from pixcon_mm.datasets.listing import list_images, readable_suffixes
from pixcon_mm.datasets.loading import BrokenImageError
from pixcon_mm.errors import UserError


@DATASETS.register_module()
class SceneImageDataset(BaseDataset):
    """All images of one or several folders, and of the folders within.

    Samples are a function of (seed, epoch, index), whatever the number of
    workers; an index drawn again in the same epoch gives new views. Images
    that cannot be decoded are replaced by others and remembered in
    ``broken``. Both live in shared memory, so that worker processes see the
    epoch change and the main process sees what the workers found.
    ``SceneDatasetHook`` is the other end.

    Args:
        data_root (str | list[str]): Folders to list. Symbolic links are
            followed, names that start with a dot are not.
        pipeline (list[dict]): Transforms, beginning with ``LoadSceneImage``.
        extensions (Sequence[str], optional): Suffixes of image files, in any
            case. Defaults to None, all that can be decoded here.
        indices (int | Sequence[int], optional): Keep the first so many
            images, or these. Defaults to None, all.
        max_refetch (int): How often in a row another image is tried when
            the pipeline turns one down. Defaults to 1000.
        lazy_init (bool): Do not list the folders yet. Defaults to False.
    """

    METAINFO = dict(task_name='two-view pre-training')

    def __init__(
        self,
        data_root: str | list[str],
        pipeline: list[dict],
        extensions: Sequence[str] | None = None,
        indices: int | Sequence[int] | None = None,
        max_refetch: int = 1000,
        lazy_init: bool = False,
    ):
        self.folders = (
            [data_root]
            if isinstance(data_root, str | os.PathLike) or not data_root
            else list(data_root)
        )
        self.extensions = tuple(
            '.' + extension.lower().lstrip('.')
            for extension in extensions or readable_suffixes()
        )
        self._clock = torch.zeros(2, dtype=torch.int64)
        super().__init__(
            data_root=data_root,
            data_prefix={},
            pipeline=pipeline,
            indices=indices,
            max_refetch=max_refetch,
            lazy_init=lazy_init,
        )

    def full_init(self) -> None:
        """List the folders and make room for what is known of each image."""
        if not self._fully_initialized:
            super().full_init()
            self._make_room()

    def get_subset_(self, indices) -> None:
        """Keep some images only."""
        super().get_subset_(indices)
        self._make_room()

    def get_subset(self, indices) -> 'SceneImageDataset':
        """Copy with some images only."""
        subset = super().get_subset(indices)
        subset._make_room()
        return subset

    def _make_room(self) -> None:
        self.broken = torch.zeros(len(self), dtype=torch.uint8)
        self._visits = torch.zeros(len(self), dtype=torch.int32)
        self._share()

    def _share(self) -> None:
        for state in (self._clock, self.broken, self._visits):
            state.share_memory_()

    def load_data_list(self) -> list[dict]:
        """List the images of all folders.

        Raises:
            UserError: If a folder is missing or holds no image.
        """
        visited: set[str] = set()
        return [
            dict(img_path=path)
            for folder in self.folders
            for path in list_images(folder, self.extensions, visited)
        ]

    def set_epoch(self, seed: int, epoch: int) -> None:
        """Choose the views of an epoch, in all worker processes too."""
        # The runner copies a dataset that is handed to it ready-made, and
        # copies of shared tensors are not shared.
        self._share()
        self._clock.copy_(torch.tensor([seed, epoch]))
        self._visits.zero_()

    def broken_paths(self) -> list[str]:
        """Paths of the images known to be broken."""
        indices = self.broken.nonzero().flatten().tolist()
        return [self.get_data_info(i)['img_path'] for i in indices]

    def __getitem__(self, idx: int) -> dict:
        """Return the sample of an image, or of another one if it fails.

        Raises:
            UserError: If no image is left to fetch.
        """
        self.full_init()
        # An index may come from the end of the list, as in any sequence.
        idx = range(len(self))[idx]
        visit = int(self._visits[idx])
        self._visits[idx] += 1
        with seeded(*self._clock.tolist(), idx, visit):
            return self._fetch(idx)

    def _fetch(self, idx: int) -> dict:
        refused = 0
        while refused <= self.max_refetch:
            if not self.broken[idx]:
                sample = self.prepare_data(idx)
                if sample is not None:
                    return sample
                refused += not self.broken[idx]
            if self.broken.all():
                raise UserError(
                    f'None of the {len(self)} images in {self._where()} can '
                    f'be read (the last was '
                    f'{self.get_data_info(idx)["img_path"]!r}): check that '
                    'the files are complete images.'
                )
            # Broken images stay in the draw: what replaces an image must
            # not depend on which others have been found broken so far.
            idx = self._rand_another()
        raise UserError(
            f'{refused} images in a row from {self._where()} gave no two '
            'overlapping crops, as very long and narrow images do: set '
            "on_no_overlap='center' in TwoViewRandomResizedCrop."
        )

    def prepare_data(self, idx: int) -> dict | None:
        """Run the pipeline; None for a broken or refused image."""
        try:
            return super().prepare_data(idx)
        except BrokenImageError:
            self.broken[idx] = 1
            return None

    def _where(self) -> str:
        return ', '.join(repr(str(folder)) for folder in self.folders)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed Python, NumPy and torch (CPU) for a block, then undo it."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    state = np.random.SeedSequence([abs(k) for k in key]).generate_state(4)
    random.seed(int(state[0]))
    np.random.seed(state[1:3])
    # torch.manual_seed would reach for the GPU's generators as well.
    torch.default_generator.manual_seed(int(state[3]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
