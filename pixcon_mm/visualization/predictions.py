"""Pictures of a detector's or segmentor's predictions beside the truth."""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import TRANSFORMS, VISUALIZERS
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import Dataset

from pixcon_mm.classes import colours
from pixcon_mm.datasets.listing import spread
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.metrics import IGNORE
from pixcon_mm.files import atomic_write

# Default visualisers of the frameworks, for configs without one.
VISUALIZER = dict(mmdet='DetLocalVisualizer', mmseg='SegLocalVisualizer')
MIN_SCORE = 0.3  # lowest score of the detections that are drawn
AT_LEAST = 3  # number of detections drawn if none has that score
GAP = 8  # pixels between truth and prediction
ROW = (1000, 400)  # largest width and height of a row in a sheet, in pixels
WHITE = (255, 255, 255)
MAX_JPEG = 65_500  # largest width and height that OpenCV writes, in pixels
SEARCHED = 100  # largest number of masks that are searched for objects


def pairs(
    model: nn.Module, dataset: Dataset, cfg: Config, indices: Iterable[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Draw truth and prediction for some images of a test set.

    The model is left in evaluation mode.

    Args:
        model (nn.Module): A detector or segmentor, not wrapped.
        dataset (Dataset): Test set of the model's framework.
        cfg (Config): Config with ``default_scope`` and perhaps a visualiser.
        indices (Iterable[int]): Indices of the images in the data set.

    Yields:
        tuple[str, np.ndarray]: Path of the image; a picture with the truth on
        the left and the prediction on the right, RGB, uint8, (H, W, 3).

    Raises:
        UserError: If there is no visualiser for the config's framework.
    """
    visualizer = build_visualizer(cfg, dataset.metainfo)
    model.eval()
    for index in indices:
        info = dataset.get_data_info(index)
        with torch.no_grad():
            batch = pseudo_collate([dataset[index]])
            (sample,) = model.test_step(batch)
        sample = sample.cpu()
        image = mmcv.imread(info['img_path'], channel_order='rgb')
        if 'instances' in info:
            sample.gt_instances = true_instances(info, image.shape[:2])
        caption = limit_detections(sample)
        halves = []
        for title, is_truth in (('truth', True), (caption, False)):
            visualizer.set_image(image)
            options: dict[str, Any] = dict(
                draw_gt=is_truth, draw_pred=not is_truth
            )
            if 'pred_instances' in sample:
                # limit_detections has removed those that are not to be drawn.
                options['pred_score_thr'] = -1
            visualizer.add_datasample(title, image, sample, **options)
            halves.append(with_title(visualizer.get_image(), title))
        gap = np.full((len(halves[0]), GAP, 3), 255, np.uint8)
        yield info['img_path'], np.hstack([halves[0], gap, halves[1]])


def build_visualizer(cfg: Config, metainfo: dict) -> Visualizer:
    """Build the visualiser of a config, set up so that it writes no files.

    Args:
        cfg (Config): Config of a detector or segmentor.
        metainfo (dict): ``classes`` and ``palette`` of the data set.

    Raises:
        UserError: If the config is for another framework.
    """
    scope = cfg.get('default_scope')
    if scope not in VISUALIZER:
        raise UserError(
            f'{cfg.filename} has no detector or segmentor whose predictions '
            'could be drawn.'
        )
    options = dict(cfg.get('visualizer') or dict(type=VISUALIZER[scope]))
    options.pop('save_dir', None)
    options.update(vis_backends=None, name=f'predictions-{time.time_ns()}')
    visualizer = VISUALIZERS.build(options)
    visualizer.dataset_meta = names_and_colors(metainfo)
    return visualizer


def names_and_colors(metainfo: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``classes``, and a ``palette`` of a tuple for each class.

    The visualisers accept no other types. A palette that is too short is
    replaced.

    Example:
        >>> names_and_colors(dict(classes=('cat',), palette=[[9, 8, 7]]))
        {'classes': ('cat',), 'palette': [(9, 8, 7)]}
    """
    classes, palette = metainfo['classes'], metainfo.get('palette')
    if not isinstance(palette, list | tuple) or len(palette) < len(classes):
        palette = colours(len(classes))
    colors = [tuple(color) for color in palette[: len(classes)]]
    return dict(classes=classes, palette=colors)


def true_instances(info: dict, size: tuple[int, int]) -> InstanceData:
    """Load the true boxes of an image, and masks if all its objects have one.

    Args:
        info (dict): The image's entry in a data set of MMDetection.
        size (tuple[int, int]): Height and width of the image.
    """
    objects = [x for x in info['instances'] if not x.get('ignore_flag')]
    has_masks = bool(objects) and all('mask' in each for each in objects)
    load = TRANSFORMS.build(
        dict(type='mmdet.LoadAnnotations', with_mask=has_masks)
    )
    found = load(dict(info, instances=objects, ori_shape=size, img_shape=size))
    instances = InstanceData(
        bboxes=found['gt_bboxes'].tensor,
        labels=torch.as_tensor(found['gt_bboxes_labels']),
    )
    if has_masks:
        instances.masks = found['gt_masks']
    return instances


def limit_detections(sample: Any) -> str:
    """Remove detections that are not to be drawn; return a title.

    If no score reaches ``MIN_SCORE``, as after a short training, the
    ``AT_LEAST`` best detections remain.

    Args:
        sample (DetDataSample | SegDataSample): Changed in place.
    """
    if 'pred_instances' not in sample:
        return 'prediction'
    found = sample.pred_instances
    scores = found.scores
    good = scores >= MIN_SCORE
    if good.any():
        sample.pred_instances = found[good]
        return f'prediction: {int(good.sum())}, score {MIN_SCORE:.0%} or more'
    best = scores.argsort(descending=True)[:AT_LEAST]
    sample.pred_instances = found[best]
    if not len(best):
        return 'prediction: nothing'
    return f'prediction: best {len(best)}, all below {MIN_SCORE:.0%}'


def with_title(image: np.ndarray, title: str) -> np.ndarray:
    """Put a white band with a title above an image, RGB, (H, W, 3)."""
    width = image.shape[1]
    scale = min(1.0, width / 500)
    (length, height), _ = cv2.getTextSize(title, 0, scale, 1)
    scale *= min(1.0, (width - 8) / length)
    band = np.full((height + 12, width, 3), 255, np.uint8)
    place = (4, height + 4)
    cv2.putText(band, title, place, 0, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([band, image])


def write_pairs(
    model: nn.Module, dataset: Dataset, cfg: Config, folder: Path, count: int
) -> int:
    """Write a JPEG file of truth and prediction for each of some images.

    The arguments are those of :func:`pairs`, with a folder, which gets
    ``INDEX_NAME.jpg``, and the number of images, evenly spaced in the data
    set.

    Returns:
        int: Number of pictures written.
    """
    indices = spread(count, len(dataset))
    for index, (path, picture) in zip(
        indices, pairs(model, dataset, cfg, indices), strict=True
    ):
        write_picture(folder / f'{index:05d}_{Path(path).stem}.jpg', picture)
    return len(indices)


def write_sheet(
    model: nn.Module, dataset: Dataset, cfg: Config, path: Path, count: int
) -> int:
    """Write one picture with a row of truth and prediction for each image.

    The arguments are those of :func:`write_pairs`, with the path of the
    picture in place of the folder; :func:`choose_images` selects the images.

    Returns:
        int: Number of images shown.
    """
    indices = choose_images(dataset, count)
    rows = [
        mmcv.imrescale(
            picture, min(np.divide(ROW, picture.shape[1::-1]).tolist())
        )
        for _, picture in pairs(model, dataset, cfg, indices)
    ]
    width = max(row.shape[1] for row in rows)
    rows = [
        mmcv.impad(row, shape=(len(row) + GAP, width), pad_val=WHITE)
        for row in rows
    ]
    write_picture(path, np.vstack(rows))
    return len(indices)


def choose_images(dataset: Dataset, count: int) -> list[int]:
    """Choose evenly spaced images, with objects if possible.

    For a segmentor, at most ``SEARCHED`` masks are read.
    """
    has_boxes = 'instances' in dataset.get_data_info(0)
    good, empty = [], []
    for index in spread(None if has_boxes else SEARCHED, len(dataset)):
        is_good = has_box if has_boxes else has_segment
        (good if is_good(dataset, index) else empty).append(index)
    chosen = [good[i] for i in spread(count, len(good))]
    more = spread(count - len(chosen), len(empty))
    return chosen + [empty[i] for i in more]


def has_box(dataset: Dataset, index: int) -> bool:
    """Check if an image of a detector has an object that is not ignored."""
    objects = dataset.get_data_info(index)['instances']
    return not all(each.get('ignore_flag') for each in objects)


def has_segment(dataset: Dataset, index: int) -> bool:
    """Check if an image of a segmentor shows more than background.

    This is true as well if no class is called background or if the image has
    no mask.
    """
    names = [name.lower() for name in dataset.metainfo['classes']]
    if 'background' not in names:
        return True
    sample = dataset[index]['data_samples']
    if 'gt_sem_seg' not in sample:
        return True
    others = {IGNORE, names.index('background')}
    return not {*sample.gt_sem_seg.data.unique().tolist()} <= others


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture as JPEG, smaller if JPEG does not take its size."""
    scale = MAX_JPEG / max(picture.shape)
    if scale < 1:
        picture = mmcv.imrescale(picture, scale)
    _, content = cv2.imencode('.jpg', picture[..., ::-1])
    atomic_write(path, content.tobytes())
