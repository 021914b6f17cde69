"""Draw and save the predictions of a fine-tuned detector or segmentor.

OUT/vis has a picture for each image. OUT/preds has the predictions: for a
detector, JSON with class, score, box (x1, y1, x2, y2 in pixels) and mask
(COCO's run-length encoding) of each detection; for a segmentor, a PNG image
with indices of classes. Images that cannot be read, or whose size the network
does not take, are skipped with a warning, and the exit status is then 1.
"""

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.registry import DATASETS
from torch import nn

from pixcon_mm.checkpoint.fill import load_whole_model
from pixcon_mm.checkpoint.load import load_weights
from pixcon_mm.classes import check_names
from pixcon_mm.cli import parse_options, quiet, read_config
from pixcon_mm.datasets.decoding import decode_whole
from pixcon_mm.datasets.loading import name_images
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.evaluation.backbones import find_device, is_size_trouble
from pixcon_mm.files import as_line, atomic_write, check_folder
from pixcon_mm.visualization.predictions import (
    MIN_SCORE,
    names_and_colors,
    write_picture,
)

INFERENCERS = dict(mmdet='DetInferencer', mmseg='MMSegInferencer')
NAMED = 5  # largest number of classes in the line that is printed per image


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', help='checkpoint of a fine-tuned model')
    add('images', nargs='+', type=Path, help='images, or folders of images')
    add('--out', type=Path, required=True, help='folder for the results')
    add(
        '--score-thr',
        type=float,
        default=MIN_SCORE,
        help='lowest score of detections to draw; all are saved; '
        'default: %(default)s',
    )
    add(
        '--device',
        help='for example cpu or cuda:1; default: a GPU if available',
    )
    args = parse_options(parser, argv)
    if not 0 <= args.score_thr <= 1:
        parser.error('--score-thr must be a number from 0 to 1')
    return args


def find_fault(path: Path) -> str | None:
    """Return the reason why an image cannot be read; None if it can."""
    try:
        decode_whole(path.read_bytes())
    except (OSError, ValueError) as error:
        return getattr(error, 'strerror', None) or str(error)
    image = mmcv.imread(path)
    if image is None:
        return 'OpenCV cannot read this kind: convert it to JPEG or PNG'
    if image.shape[:2] == (1, 1):
        return 'it is a single pixel, which cannot be drawn'
    return None


def build_inferencer(
    cfg: Config, checkpoint: str, device: str
) -> BaseInferencer:
    """Build the framework's inferencer, with all weights from a checkpoint.

    Raises:
        UserError: If the config has neither a detector nor a segmentor, or if
            a weight is missing.
    """
    scope = cfg.get('default_scope')
    if scope not in INFERENCERS or not cfg.get('test_dataloader'):
        raise UserError(
            f'{cfg.filename} has no detector or segmentor with a test '
            'pipeline, so it cannot predict.'
        )
    weights = load_weights(checkpoint)
    parent = getattr(
        importlib.import_module(f'{scope}.apis'), INFERENCERS[scope]
    )

    class StrictInferencer(parent):
        """Inferencer that stops if a weight is missing."""

        def _load_weights_to_model(self, model: nn.Module, *_: Any) -> None:
            load_whole_model(model, weights.tensors, checkpoint)
            model.dataset_meta = class_names(cfg, weights.dataset_meta)

    with quiet():
        inferencer = StrictInferencer(cfg, device=device, scope=scope)
    # An argument in some versions only.
    inferencer.show_progress = False
    return inferencer


def class_names(cfg: Config, found: dict[str, Any]) -> dict[str, Any]:
    """Return ``classes`` and ``palette``, of the checkpoint or the config."""
    if not found.get('classes'):
        found = DATASETS.build(
            dict(cfg.test_dataloader.dataset, lazy_init=True)
        ).metainfo
    return names_and_colors(found)


def predict_detections(
    inferencer: BaseInferencer, image: Path, min_score: float
) -> tuple[np.ndarray, bytes, str]:
    """Detect objects in an image.

    Returns:
        tuple[np.ndarray, bytes, str]: The picture, RGB, (H, W, 3); the content
        of the JSON file; a summary of the detections.
    """
    result = inferencer(str(image), return_vis=True, pred_score_thr=min_score)
    (found,) = result['predictions']
    classes = inferencer.model.dataset_meta['classes']
    detections = [
        dict(zip(('class', 'score', 'box', 'mask'), values, strict=False))
        for values in zip(
            [classes[label] for label in found['labels']],
            found['scores'],
            found['bboxes'],
            *([found['masks']] if 'masks' in found else []),
            strict=True,
        )
    ]
    detections.sort(key=lambda one: -one['score'])
    drawn = [one for one in detections if one['score'] > min_score]
    counts = Counter(one['class'] for one in drawn).most_common(NAMED)
    summary = ', '.join(f'{count} {label}' for label, count in counts)
    if not drawn:
        summary = f'nothing with a score above {min_score:g}'
        if detections:
            best = detections[0]
            summary += f'; best is {best["class"]}, {best["score"]:.2f}'
    content = json.dumps(dict(image=str(image), detections=detections))
    return result['visualization'][0], content.encode(), summary


def predict_segments(
    inferencer: BaseInferencer, image: Path, _: float
) -> tuple[np.ndarray, bytes, str]:
    """Segment an image.

    Returns:
        tuple[np.ndarray, bytes, str]: The picture, RGB, (H, W, 3); the content
        of the PNG file of class indices; a summary with shares of classes.
    """
    result = inferencer(str(image), return_vis=True, opacity=0.5)
    labels = result['predictions'].astype(np.uint8)
    classes = inferencer.model.dataset_meta['classes']
    values, counts = np.unique(labels, return_counts=True)
    order = counts.argsort()[::-1][:NAMED]
    summary = ', '.join(
        f'{classes[values[i]]} {counts[i] / labels.size:.0%}' for i in order
    )
    content = cv2.imencode('.png', labels)[1].tobytes()
    return result['visualization'], content, summary


PREDICT = dict(
    mmdet=(predict_detections, '.json'), mmseg=(predict_segments, '.png')
)


def predict(
    inferencer: BaseInferencer, image: Path, min_score: float
) -> tuple[np.ndarray, bytes, str]:
    """Detect or segment, as :func:`predict_detections` or ``_segments``.

    Raises:
        UserError: If the image cannot be read, or if the network does not
            take images of its size.
    """
    fault = find_fault(image)
    if fault:
        raise UserError(fault)
    try:
        with quiet():
            run, _ = PREDICT[inferencer.scope]
            return run(inferencer, image, min_score)
    except RuntimeError as error:
        if not is_size_trouble(error):
            raise
        raise UserError(
            f'the network does not take images of this size ({error})'
        ) from error


def check_apart(images: Iterable[Path], results: Iterable[Path]) -> None:
    """Stop if a result would overwrite an image."""
    files = {path.resolve() for path in images}
    for path in results:
        if path.resolve() in files:
            raise UserError(
                f'{as_line(path)} is one of the images, and a result would '
                'overwrite it: name another folder with --out.'
            )


def main(argv: list[str] | None = None) -> None:
    """Predict all images, and write pictures and predictions."""
    args = parse_args(argv)
    device = find_device(args.device)
    names = name_images(args.images, args.out)
    check_folder(args.out)
    cfg = read_config(args.config, args.cfg_options)
    check_names(cfg)
    inferencer = build_inferencer(cfg, args.checkpoint, device)
    _, suffix = PREDICT[cfg.default_scope]
    places = {
        name: (
            args.out / 'vis' / f'{name}.jpg',
            args.out / 'preds' / f'{name}{suffix}',
        )
        for name in names.values()
    }
    check_apart(names, [file for pair in places.values() for file in pair])
    skipped = 0
    for image, name in names.items():
        try:
            picture, content, words = predict(
                inferencer, image, args.score_thr
            )
        except UserError as fault:
            skipped += 1
            print(
                f'warning: {as_line(image)} is skipped: {fault}',
                file=sys.stderr,
            )
            continue
        drawn, saved = places[name]
        write_picture(drawn, picture)
        atomic_write(saved, content)
        print(f'{as_line(image)}: {words}', flush=True)
    print(
        f'{len(names) - skipped} of {len(names)} images: pictures in '
        f'{args.out / "vis"}, results in {args.out / "preds"}'
    )
    if skipped:
        sys.exit(1)


if __name__ == '__main__':
    run_tool(main)
