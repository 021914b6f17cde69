"""Small labelled trees whose classes show as colours."""

import json

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


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def scenes(splits, train, val):
    """Yield split, name, image and mask of each scene."""
    rng = np.random.default_rng(0)
    for split, count in zip(splits, (train, val), strict=True):
        for number in range(count):
            yield split, f'{split}{number}', *scene(rng)


def make_voc(root, train=4, val=2):
    lists = dict(train=[], val=[])
    for split, name, image, mask in scenes(lists, train, val):
        lists[split].append(name)
        save(image, root / f'JPEGImages/{name}.jpg')
        mask[:2] = 255
        picture = Image.fromarray(mask)
        picture.putpalette([*range(256)] * 3)
        save(picture, root / f'SegmentationClass/{name}.png')
        note = root / f'Annotations/{name}.xml'
        note.parent.mkdir(exist_ok=True)
        cat = voc_object('cat', (1, 1, 32, 32))
        note.write_text(voc_xml(cat, size=image.size))
    for file, split in {
        'Segmentation/train.txt': 'train',
        'Segmentation/trainaug.txt': 'train',
        'Segmentation/val.txt': 'val',
        'Main/trainval.txt': 'train',
    }.items():
        path = root / 'ImageSets' / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(lists[split]))
    return root


def make_cityscapes(root, train=4, val=2):
    for split, name, image, mask in scenes(('train', 'val'), train, val):
        place = f'{split}/a/{name}'
        save(image, root / f'leftImg8bit/{place}_leftImg8bit.png')
        labels = root / f'gtFine/{place}_gtFine_labelTrainIds.png'
        save(Image.fromarray(mask), labels)
    return root


def make_ade20k(root, train=4, val=2):
    folders = ('training', 'validation')
    for split, name, image, mask in scenes(folders, train, val):
        save(image, root / f'images/{split}/{name}.jpg')
        mask += 1  # 0 is "other"
        mask[:2] = 0
        save(Image.fromarray(mask), root / f'annotations/{split}/{name}.png')
    return root


def make_coco_panoptic(root, train=4, val=2):
    categories = [
        dict(id=i, name=name)
        for i, name in ((1, 'person'), (7, 'train'), (200, 'rug'))
    ]
    # Ids of segments, of which the classes are.
    segments = [
        dict(id=i, category_id=c) for i, c in ((70000, 1), (300, 7), (5, 200))
    ]
    contents = {
        split: dict(images=[], annotations=[], categories=categories)
        for split in ('train', 'val')
    }
    for split, name, image, mask in scenes(contents, train, val):
        save(image, root / f'{split}2017/{name}.jpg')
        ids = np.array([segment['id'] for segment in segments])[mask]
        ids[:2] = 0  # of no segment
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
        folder = root / f'annotations/panoptic_{split}2017'
        save(Image.fromarray(rgb.astype(np.uint8)), folder / f'{name}.png')
        images, notes = (
            contents[split]['images'],
            contents[split]['annotations'],
        )
        note = dict(image_id=len(images), file_name=f'{name}.png')
        images.append(dict(id=len(images), file_name=f'{name}.jpg'))
        notes.append(dict(note, segments_info=segments))
    for split, content in contents.items():
        path = root / f'annotations/panoptic_{split}2017.json'
        path.write_text(json.dumps(content))
    return root


def make_own(root, train=4, val=2, values=range(256), suffix='.jpg'):
    """Write images of any suffix, and masks of these values."""
    for split, name, image, mask in scenes(('train', 'val'), train, val):
        save(image, root / f'images/{split}/{name}{suffix}')
        mask = np.asarray(values, np.uint8)[mask]
        mask[:2] = 255
        save(Image.fromarray(mask), root / f'masks/{split}/{name}.png')
    return root


MAKERS = {
    'VOC': make_voc,
    'Cityscapes': make_cityscapes,
    'ADE20K': make_ade20k,
    'COCO-panoptic': make_coco_panoptic,
}
