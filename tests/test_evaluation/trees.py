"""Small labelled trees whose classes show as colours."""

import json
import shutil

import numpy as np
from PIL import Image

from tests.benchmarks import voc_object, voc_xml

# Class of a data set, and its colour in the photographs.
COLOURS = {0: (200, 30, 30), 1: (30, 200, 30), 2: (30, 30, 200)}


def scene(rng, height=64, width=96):
    """Return an image of 32 x 32 blocks with noise, and its mask."""
    blocks = rng.integers(len(COLOURS), size=(height // 32, width // 32))
    mask = np.kron(blocks, np.ones((32, 32), int)).astype(np.uint8)
    colours = np.array([*COLOURS.values()])[mask]
    noise = rng.integers(-20, 20, colours.shape)
    return Image.fromarray((colours + noise).astype(np.uint8)), mask


def names(split, count):
    return [f'{split}{i}' for i in range(count)]


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def make_voc(root, train=4, val=2):
    rng = np.random.default_rng(0)
    for split, count in dict(train=train, val=val).items():
        path = root / f'ImageSets/Segmentation/{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names(split, count)))
        for name in names(split, count):
            image, mask = scene(rng)
            save(image, root / f'JPEGImages/{name}.jpg')
            mask[:2] = 255
            picture = Image.fromarray(mask)
            picture.putpalette([*range(256)] * 3)
            save(picture, root / f'SegmentationClass/{name}.png')
            note = root / f'Annotations/{name}.xml'
            note.parent.mkdir(exist_ok=True)
            note.write_text(voc_xml(voc_object('cat', (1, 1, 32, 32))))
    lists = root / 'ImageSets'
    shutil.copy(
        lists / 'Segmentation/train.txt', lists / 'Segmentation/trainaug.txt'
    )
    (lists / 'Main').mkdir()
    shutil.copy(lists / 'Segmentation/train.txt', lists / 'Main/trainval.txt')
    return root


def make_cityscapes(root, train=4, val=2):
    rng = np.random.default_rng(0)
    for split, count in dict(train=train, val=val).items():
        for name in names(split, count):
            image, mask = scene(rng)
            place = f'{split}/a/{name}'
            save(image, root / f'leftImg8bit/{place}_leftImg8bit.png')
            labels = root / f'gtFine/{place}_gtFine_labelTrainIds.png'
            save(Image.fromarray(mask), labels)
    return root


def make_ade20k(root, train=4, val=2):
    rng = np.random.default_rng(0)
    for split, count in dict(training=train, validation=val).items():
        for name in names(split, count):
            image, mask = scene(rng)
            save(image, root / f'images/{split}/{name}.jpg')
            mask += 1  # 0 is "other"
            mask[:2] = 0
            labels = root / f'annotations/{split}/{name}.png'
            save(Image.fromarray(mask), labels)
    return root


def make_coco_panoptic(root, train=4, val=2):
    rng = np.random.default_rng(0)
    categories = [
        dict(id=i, name=name)
        for i, name in ((1, 'person'), (7, 'train'), (200, 'rug'))
    ]
    for split, count in dict(train=train, val=val).items():
        images, annotations = [], []
        for number, name in enumerate(names(split, count)):
            image, mask = scene(rng)
            save(image, root / f'{split}2017/{name}.jpg')
            images.append(dict(id=number, file_name=f'{name}.jpg'))
            ids = np.array([70000, 300, 5])[mask]
            ids[:2] = 0  # of no segment
            rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
            folder = root / f'annotations/panoptic_{split}2017'
            save(Image.fromarray(rgb.astype(np.uint8)), folder / f'{name}.png')
            segments = [
                dict(id=i, category_id=c)
                for i, c in ((70000, 1), (300, 7), (5, 200))
            ]
            note = dict(image_id=number, file_name=f'{name}.png')
            annotations.append(dict(note, segments_info=segments))
        content = dict(images=images, annotations=annotations)
        path = root / f'annotations/panoptic_{split}2017.json'
        path.write_text(json.dumps(dict(content, categories=categories)))
    return root


MAKERS = {
    'VOC': make_voc,
    'Cityscapes': make_cityscapes,
    'ADE20K': make_ade20k,
    'COCO-panoptic': make_coco_panoptic,
}
