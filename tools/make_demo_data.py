#!/usr/bin/env python
"""Compose a small COCO-style data set from photographs of scikit-image.

Cut-outs of seven kinds of objects are pasted on photographed backgrounds, so
that boxes, masks and semantic labels are exact. The same options give the same
images. Layout below --out:

    train2017/ val2017/                          images (JPEG)
    annotations/instances_{train,val}2017.json   boxes and masks (RLE)
    annotations/panoptic_{train,val}2017.json    segments; in a folder, PNG
    semantic/train2017/ semantic/val2017/        labels (PNG): 0 ground, 1-7
    README.txt                                   sources of the photographs
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import skimage
from pycocotools import mask as rle

from pixcon_mm.cli import at_least
from pixcon_mm.datasets.listing import OPENCV_SUFFIXES
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.files import atomic_write

PHOTOS = Path(skimage.__file__).parent / 'data'
WIDTH, HEIGHT = 320, 240
CLASSES = ('person', 'cat', 'cup', 'motorcycle', 'coin', 'retina', 'logo')
GROUND = len(CLASSES) + 1  # category id of the ground
GROUNDS = (
    'grass.png',
    'gravel.png',
    'brick.png',
    'hubble_deep_field.jpg',
    'ihc.png',
)
SOURCES = """\
Composed by tools/make_demo_data.py from photographs that scikit-image ships,
with the terms that its documentation (skimage.data) gives:

astronaut.png          NASA Great Images database; public domain
brick.png              CC0Textures; CC0
chelsea.png            Stefan van der Walt; CC0
coffee.png             Rachel Michetti, Pikolo Espresso Bar; CC0
coins.png              Brooklyn Museum; no known copyright restrictions
grass.png              linolafett, DeviantArt; CC0
gravel.png             CC0Textures; CC0
hubble_deep_field.jpg  NASA; public domain
ihc.png                no known copyright restrictions
logo.png               scikit-image's logo
motorcycle_left.png    Middlebury 2014 stereo benchmark, Middlebury College
retina.jpg             Wikimedia Commons; CC0
"""
MIN_VISIBLE = 0.4  # share of an object that others must not cover

# Outlines drawn by hand, in pixels of the photograph.
OUTLINES = {
    'person': (
        'astronaut.png',
        [(154, 51), (180, 22), (222, 14), (270, 22), (300, 55), (296, 103)]
        + [(268, 165), (308, 222), (351, 257), (363, 342), (300, 372)]
        + [(276, 430), (300, 511), (62, 511), (60, 308), (77, 248)]
        + [(120, 215), (128, 165), (166, 150), (157, 94)],
    ),
    'cat': (
        'chelsea.png',
        [(30, 8), (75, 40), (113, 27), (166, 3), (287, 3), (362, 30)]
        + [(370, 90), (350, 150), (324, 241), (287, 268), (226, 283)]
        + [(166, 271), (106, 226), (53, 181), (33, 105)],
    ),
    'motorcycle': (
        'motorcycle_left.png',
        [(85, 190), (110, 170), (160, 160), (200, 178), (260, 190)]
        + [(330, 190), (400, 175), (440, 120), (480, 85), (530, 90)]
        + [(560, 120), (575, 160), (565, 200), (610, 260), (655, 310)]
        + [(680, 370), (682, 430), (655, 452), (610, 435), (560, 390)]
        + [(530, 345), (480, 380), (400, 400), (345, 425), (325, 425)]
        + [(270, 365), (240, 385), (190, 400), (145, 390), (118, 350)]
        + [(112, 310), (130, 262), (90, 235)],
    ),
}


def read(name: str) -> np.ndarray:
    """Read a photograph of scikit-image, BGR."""
    image = cv2.imread(str(PHOTOS / name))
    if image is None:
        raise SystemExit(
            f'error: the installed scikit-image has no photograph {name}: '
            'install the version in requirements/constraints.txt.'
        )
    return image


def cut(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cut out an object as BGR and alpha, (H, W, 4)."""
    x, y, w, h = cv2.boundingRect(mask)
    box = np.s_[y : y + h, x : x + w]
    soft = cv2.GaussianBlur(mask, (3, 3), 0)
    return np.dstack([image[box], soft[box]])


def cut_outs() -> dict[str, list[np.ndarray]]:
    """Cut out all objects, by class; there are 24 different coins."""
    objects = {}
    for name, (photo, outline) in OUTLINES.items():
        image = read(photo)
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.array(outline)], 255)
        objects[name] = [cut(image, mask)]

    image = read('coffee.png')
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.ellipse(mask, (278, 252), (201, 140), 0, 0, 360, 255, -1)
    cv2.ellipse(mask, (290, 112), (116, 100), 0, 0, 360, 255, -1)
    objects['cup'] = [cut(image, mask)]

    image = read('coins.png')
    _, mask = cv2.threshold(
        cv2.GaussianBlur(image[..., 0], (5, 5), 0), 107, 255, 0
    )
    contours, _ = cv2.findContours(
        mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    objects['coin'] = []
    for contour in contours:
        if 900 < cv2.contourArea(contour) < 5000:
            mask = np.zeros(image.shape[:2], np.uint8)
            cv2.fillConvexPoly(mask, cv2.convexHull(contour), 255)
            objects['coin'].append(cut(image, mask))

    for name, photo, margin in (
        ('retina', 'retina.jpg', 12),
        ('logo', 'logo.png', 10),
    ):
        image = read(photo)
        mask = np.zeros(image.shape[:2], np.uint8)
        half = image.shape[0] // 2
        cv2.circle(mask, (half, half), half - margin, 255, -1)
        objects[name] = [cut(image, mask)]
    return objects


def draw_ground(photos: list[np.ndarray], rng) -> np.ndarray:
    """Crop a random part of a random photograph, and change its colours."""
    image = photos[rng.integers(len(photos))]
    height = int(rng.uniform(0.45, 1.0) * min(image.shape[:2]))
    width = min(height * WIDTH // HEIGHT, image.shape[1])
    y = rng.integers(image.shape[0] - height + 1)
    x = rng.integers(image.shape[1] - width + 1)
    part = image[y : y + height, x : x + width]
    part = cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    tint = rng.uniform(0.6, 1.2, 3)
    return np.clip(part * tint, 0, 255).astype(np.uint8)


def transform(cutout: np.ndarray, rng) -> np.ndarray:
    """Scale, mirror, rotate and tint an object at random."""
    size = rng.uniform(0.25, 0.75) * HEIGHT
    scale = size / max(cutout.shape[:2])
    image = cv2.resize(
        cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    if rng.random() < 0.5:
        image = image[:, ::-1]
    h, w = image.shape[:2]
    side = int(np.hypot(h, w)) + 2
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(-25, 25), 1)
    turn[:, 2] += (side - w) / 2, (side - h) / 2
    image = cv2.warpAffine(np.ascontiguousarray(image), turn, (side, side))
    light = rng.uniform(0.7, 1.25) * rng.uniform(0.9, 1.1, 3)
    image[..., :3] = np.clip(image[..., :3] * light, 0, 255)
    x, y, w, h = cv2.boundingRect((image[..., 3] > 127).astype(np.uint8))
    return image[y : y + h, x : x + w]


def place(image: np.ndarray, rng) -> np.ndarray:
    """Put an object at a random place, at most a quarter of it outside."""
    h, w = image.shape[:2]
    x = int(rng.uniform(-0.25 * w, WIDTH - 0.75 * w))
    y = int(rng.uniform(-0.25 * h, HEIGHT - 0.75 * h))
    shift = np.float32([[1, 0, x], [0, 1, y]])
    return cv2.warpAffine(image, shift, (WIDTH, HEIGHT))


def compose(objects: dict, grounds: list, rng) -> tuple:
    """Compose one scene.

    Returns:
        tuple: Image (H, W, 3), and a list of (class index, visible mask).
    """
    scene = draw_ground(grounds, rng)
    instances: list[tuple[int, np.ndarray, int]] = []
    for _ in range(rng.integers(2, 7)):
        label = int(rng.integers(len(CLASSES)))
        kinds = objects[CLASSES[label]]
        layer = place(transform(kinds[rng.integers(len(kinds))], rng), rng)
        mask = layer[..., 3] > 127
        hidden = [
            (other & ~mask).sum() < MIN_VISIBLE * area
            for _, other, area in instances
        ]
        if any(hidden) or not mask.any():
            continue
        alpha = layer[..., 3:] / 255.0
        scene = (layer[..., :3] * alpha + scene * (1 - alpha)).astype(np.uint8)
        instances = [(i, m & ~mask, area) for i, m, area in instances]
        instances.append((label, mask, int(mask.sum())))
    return scene, [(label, mask) for label, mask, _ in instances]


def annotate(label: int, mask: np.ndarray) -> dict:
    """Return COCO's annotation of one object."""
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    return dict(
        category_id=label + 1,
        bbox=rle.toBbox(code).tolist(),
        area=int(mask.sum()),
        iscrowd=0,
        segmentation=dict(
            size=code['size'], counts=code['counts'].decode('ascii')
        ),
    )


def draw_segments(instances: list) -> tuple[np.ndarray, list[dict]]:
    """Draw COCO's panoptic segments: ground has id 1, objects 2 and above.

    Returns:
        tuple: Picture (H, W, 3), BGR with the segment's number in the red
            channel, and the description of the segments.
    """
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[..., 2] = 1
    segments = [dict(id=1, category_id=GROUND)]
    for number, (label, mask) in enumerate(instances, 2):
        picture[mask] = (0, 0, number)
        segments.append(dict(id=number, category_id=label + 1))
    return picture, segments


def write(path: Path, image: np.ndarray, *options: int) -> None:
    """Write an image file; unlike cv2.imwrite, raise an error if it fails."""
    content = cv2.imencode(path.suffix, image, options)[1]
    path.write_bytes(content.tobytes())


def check_place(out: Path) -> None:
    """Stop if the folder has anything that this tool has not made."""
    readme = out / 'README.txt'
    if out.exists() and not out.is_dir():
        raise UserError(f'--out {out} is a file: name a folder.')
    is_ours = readme.is_file() and readme.read_bytes() == SOURCES.encode()
    if out.exists() and any(out.iterdir()) and not is_ours:
        raise UserError(
            f'--out {out} is not empty, and was not made by this tool: '
            'name a new folder.'
        )


def write_split(out: Path, split: str, size: int, seed: int) -> list:
    """Compose and write a split; return its images."""
    objects = cut_outs()
    grounds = [read(name) for name in GROUNDS]
    panoptic = f'annotations/panoptic_{split}'
    target = out / 'annotations' / f'instances_{split}.json'
    target.unlink(missing_ok=True)
    for folder in (split, f'semantic/{split}', panoptic):
        (out / folder).mkdir(parents=True, exist_ok=True)
        # An earlier split may have had more scenes.
        for earlier in (out / folder).glob('[0-9][0-9][0-9][0-9][0-9][0-9].*'):
            earlier.unlink()
    images, annotations, scenes, segmented = [], [], [], []
    for index in range(size):
        # Each scene has its own seed, so it does not depend on their number.
        rng = np.random.default_rng([seed, split == 'val2017', index])
        scene, instances = compose(objects, grounds, rng)
        semantic = np.zeros((HEIGHT, WIDTH), np.uint8)
        for label, mask in instances:
            semantic[mask] = label + 1
            annotation = annotate(label, mask)
            annotation.update(id=len(annotations) + 1, image_id=index)
            annotations.append(annotation)
        name = f'{index:06d}.jpg'
        write(out / split / name, scene, cv2.IMWRITE_JPEG_QUALITY, 92)
        write(out / 'semantic' / split / f'{index:06d}.png', semantic)
        picture, segments = draw_segments(instances)
        write(out / panoptic / f'{index:06d}.png', picture)
        segmented.append(
            dict(
                image_id=index,
                file_name=f'{index:06d}.png',
                segments_info=segments,
            )
        )
        images.append(
            dict(id=index, file_name=name, width=WIDTH, height=HEIGHT)
        )
        scenes.append(scene)
    things = [
        dict(id=i + 1, name=name, isthing=1) for i, name in enumerate(CLASSES)
    ]
    record = dict(
        info=dict(description='composed scenes', photographs='scikit-image'),
        images=images,
        annotations=annotations,
        categories=things,
    )
    ground = dict(id=GROUND, name='ground', isthing=0)
    whole = dict(record, annotations=segmented, categories=[ground, *things])
    atomic_write(out / f'{panoptic}.json', json.dumps(whole).encode())
    # This file is written last: a split that has it is complete.
    atomic_write(target, json.dumps(record).encode())
    return scenes


def main(argv: list[str] | None = None) -> None:
    """Write both splits."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', type=Path, default=Path('data/demo'))
    parser.add_argument('--train', type=at_least(1), default=2048)
    parser.add_argument('--val', type=at_least(1), default=96)
    parser.add_argument('--seed', type=at_least(0), default=0)
    parser.add_argument(
        '--preview', type=Path, help='write a picture of up to 20 scenes'
    )
    args = parser.parse_args(argv)
    if args.preview and args.preview.suffix.lower() not in OPENCV_SUFFIXES:
        parser.error(f'--preview {args.preview}: name a .png or .jpg file')
    check_place(args.out)
    atomic_write(args.out / 'README.txt', SOURCES.encode())
    scenes = write_split(args.out, 'train2017', args.train, args.seed)
    write_split(args.out, 'val2017', args.val, args.seed)
    print(f'{args.train} + {args.val} scenes in {args.out}')
    if args.preview:
        shown = scenes[:20]
        shown += [np.zeros_like(shown[0])] * (-len(shown) % 5)
        rows = [np.hstack(shown[i : i + 5]) for i in range(0, len(shown), 5)]
        write(args.preview, np.vstack(rows))


if __name__ == '__main__':
    run_tool(main)
