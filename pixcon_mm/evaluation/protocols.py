"""Protocols of docs/evaluation.md: functions from settings to results."""

import argparse
from pathlib import Path

import torch

from pixcon_mm.datasets.listing import list_images, readable_suffixes
from pixcon_mm.errors import UserError, check_installed
from pixcon_mm.evaluation import (
    clustering,
    correspondence,
    discovery,
    linear,
    nearest_neighbors,
)
from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.evaluation.dense_data import DenseData, read_image
from pixcon_mm.evaluation.features import check_size, dense_features
from pixcon_mm.evaluation.metrics import segmentation_metrics
from pixcon_mm.evaluation.trees import (
    check_files,
    layout,
    read_split,
    tree_of,
)
from pixcon_mm.progress import with_progress

# Default side of the images, if there is no --size.
SIZES = dict(knn=512, linear=448, cluster=448)
Results = dict


def sample_indices(count: int, wanted: int | None, seed: int) -> list[int]:
    """Draw ``wanted`` of ``count`` samples; None returns all, in random order.

    With the same seed, a smaller draw is the beginning of a larger one.

    Example:
        >>> sample_indices(9, 3, seed=0) == sample_indices(9, 9, seed=0)[:3]
        True
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator).tolist()
    return order[: count if wanted is None else wanted]


class Setting:
    """Data and settings that the protocols with labels share.

    Args:
        args (argparse.Namespace): Options of the command line.
        backbone (FrozenBackbone): The network.
        protocol (str): Name of the protocol.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        backbone: FrozenBackbone,
        protocol: str,
    ):
        sides = args.size or [SIZES[protocol]]
        self.size = (sides[0], sides[-1])
        check_size(self.size, backbone.stride)
        options = (self.size, args.classes, args.mask_values)
        self.val = DenseData(args.data, args.val_split, *options)
        self.tested = sample_indices(len(self.val), args.val_images, args.seed)
        if protocol != 'cluster':
            self.train = DenseData(args.data, args.train_split, *options)
            self.order = sample_indices(
                len(self.train), args.train_images, args.seed
            )
        if protocol == 'linear' and len(self.order) < 2:
            raise UserError(
                'A linear head needs two training images or more: one is held '
                'out, to choose the learning rate.'
            )

    def describe(self) -> Results:
        """Return the entries about the data for a result file."""
        return dict(
            tree=self.val.kind,
            classes=self.val.classes,
            size=self.size,
            val_images=len(self.tested),
        )


def loading(args: argparse.Namespace, title: str) -> dict:
    """Return arguments of ``batches`` that all passes over images share."""
    return dict(batch_size=args.batch_size, workers=args.workers, title=title)


def knn(
    args: argparse.Namespace, backbone: FrozenBackbone, setting: Setting
) -> Results:
    """Evaluate dense nearest neighbours for each share of the labels."""
    order, found = setting.order, {}
    for share in args.shares:
        labelled = order[: max(round(len(order) / share), 1)]
        memory = nearest_neighbors.build_memory(
            *(backbone, setting.train, labelled),
            *(args.memory or None, args.seed),
            **loading(args, f'memory of 1/{share}'),
        )
        confusion = nearest_neighbors.segment(
            *(backbone, setting.val, setting.tested, memory),
            *(args.k, args.temperature, args.mask_size),
            **loading(args, 'nearest neighbours'),
        )
        found[f'1/{share}'] = dict(
            train_images=len(labelled),
            memory=len(memory.features),
            **segmentation_metrics(confusion, setting.val.classes),
        )
        miou = found[f'1/{share}']['miou']
        print(f'nearest neighbours, 1/{share}: mIoU {miou:.2f}')
        del memory
    return dict(setting.describe(), shares=found)


def linear_head(
    args: argparse.Namespace, backbone: FrozenBackbone, setting: Setting
) -> Results:
    """Train a linear head; the test images do not choose its learning rate."""
    found = linear.evaluate(
        *(backbone, setting.train, setting.order),
        *(setting.val, setting.tested, args.linear_epochs),
        mask_size=args.mask_size,
        seed=args.seed,
        **loading(args, 'linear'),
    )
    rate = found['rate']
    note = ', the largest' if rate == max(linear.RATES) else ''
    print(f'linear: mIoU {found["miou"]:.2f} (learning rate {rate}{note})')
    return dict(setting.describe(), **found)


def cluster(
    args: argparse.Namespace, backbone: FrozenBackbone, setting: Setting
) -> Results:
    """Cluster the cells of the validation images, with several seeds."""
    data, classes = setting.val, setting.val.classes
    pca = clustering.fit_pca(
        *(backbone, data, setting.tested), **loading(args, 'PCA')
    )
    cells, masks = clustering.project(
        *(backbone, data, setting.tested, pca), **loading(args, 'cells')
    )
    found = {}
    for name, k, match in (
        ('many_to_one', args.clusters, clustering.merge_by_precision),
        ('one_to_one', len(classes), clustering.match_by_iou),
    ):
        runs = []
        for seed in range(args.seed, args.seed + clustering.SEEDS):
            ids = clustering.cluster(cells, k, seed)
            counts = clustering.count_pairs(ids, masks, k, len(classes))
            runs.append(segmentation_metrics(match(counts), classes))
        miou = torch.tensor([run['miou'] for run in runs]).double()
        found[name] = dict(
            clusters=k,
            miou=miou.mean().item(),
            deviation=miou.std().item() if len(runs) > 1 else None,
            seeds=runs,
        )
        print(
            f'{k} clusters, {name.replace("_", " ")}: mIoU {miou.mean():.2f}'
        )
    return dict(
        setting.describe(),
        pca=clustering.PCA,
        mask_size=clustering.MASK,
        iterations=clustering.ITERATIONS,
        **found,
    )


def corloc(
    args: argparse.Namespace,
    backbone: FrozenBackbone,
    objects: list[discovery.Objects],
) -> Results:
    """Find one object in each of some images that have boxes."""
    found = []
    for path, truth, _ in with_progress(objects, len(objects), 'CorLoc'):
        image = read_image(path)
        box = discovery.find_object(dense_features(backbone, image))
        height, width = image.shape[:2]
        scaled = [a * b for a, b in zip(box, 2 * (width, height), strict=True)]
        found.append(discovery.is_found(tuple(scaled), truth))
    value = 100 * sum(found) / len(found)
    print(f'CorLoc: {value:.2f}')
    return dict(images=len(found), corloc=value, expansion=discovery.EXPANSION)


def match_crops(
    args: argparse.Namespace,
    backbone: FrozenBackbone,
    crops: correspondence.CropPairs,
) -> Results:
    """Match two crops of each of some photographs."""
    counts = correspondence.match(
        backbone, crops, **loading(args, 'correspondence')
    )
    found = correspondence.summarize(counts)
    print(
        f'correspondence: recall at 1 {found["recall_at_1"]:.3f} (chance '
        f'{found["chance_at_1"]:.3f}), within one cell '
        f'{found["recall_within_1_cell"]:.3f} (chance '
        f'{found["chance_within_1_cell"]:.3f})'
    )
    return dict(images=len(crops), area_range=correspondence.AREA, **found)


def photographs(root: Path, split: str) -> list[Path]:
    """List the photographs of a split of a tree, or of any other folder.

    Masks may be missing.
    """
    try:
        kind = tree_of(root)
    except UserError:
        if not root.is_dir():
            raise
        return [*map(Path, list_images(str(root), readable_suffixes(), set()))]
    paths = [image for image, _ in read_split(root, split).pairs]
    check_files(paths, layout(kind))
    return paths


def prepare(
    args: argparse.Namespace, backbone: FrozenBackbone, protocol: str
) -> Setting | correspondence.CropPairs | list[discovery.Objects]:
    """Find the data of a protocol, and check all that it needs.

    Returns:
        The last argument of the protocol's function in ``PROTOCOLS``.

    Raises:
        UserError: If a size does not fit the backbone, or if data or a library
            are missing.
    """
    if protocol == 'correspondence':
        sides = (args.crop_size, args.crop_size)
        check_size(sides, backbone.stride, '--crop-size')
        paths = photographs(args.data, args.val_split)
        chosen = sample_indices(len(paths), args.val_images, args.seed)
        return correspondence.CropPairs(
            [paths[i] for i in chosen], args.crop_size, args.seed
        )
    if protocol == 'corloc':
        objects = discovery.read_objects(args.data)
        chosen = sample_indices(len(objects), args.val_images, args.seed)
        objects = [objects[i] for i in chosen]
        discovery.check_sizes(objects)
        return objects
    if protocol == 'cluster':
        check_installed('Clustering', 'evaluation', 'faiss')
    return Setting(args, backbone, protocol)


PROTOCOLS = dict(
    knn=knn,
    linear=linear_head,
    cluster=cluster,
    corloc=corloc,
    correspondence=match_crops,
)
