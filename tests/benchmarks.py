"""Small data sets in the trees of the benchmarks, as a config asks for them.

Images hold two filled rectangles, so boxes, masks and labels are exact.
"""

import inspect
import json
from pathlib import Path

import cv2
import numpy as np
from mmengine.registry import DATASETS
from pycocotools import mask as rle

from pixcon_mm.classes import datasets

HEIGHT, WIDTH = 64, 96
BOXES = [(8, 10, 40, 30), (52, 20, 30, 36)]  # x, y, width, height
COUNT = 4


def scene(seed):
    """An image and the boxes of its objects."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for x, y, w, h in BOXES:
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return image


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_data(cfg, folder):
    """Write what the loaders of a config read, below a folder."""
    for _, dataset in datasets(cfg):
        kind = DATASETS.get(f'{cfg.default_scope}.{dataset.type}')
        write_dataset(dataset, kind, Path(folder))


def write_dataset(dataset, kind, folder):
    classes = dataset.get('metainfo', kind.METAINFO)['classes']
    prefix = dataset.data_prefix
    if 'seg_map_path' in prefix:
        write_segmentation(dataset, kind, folder, len(classes))
    elif 'sub_data_root' in prefix:
        write_voc(dataset, folder, classes)
    else:
        write_coco(dataset, folder, classes)


def coco_json(files, objects, classes, size=(WIDTH, HEIGHT)):
    """Build COCO's annotations of rectangles.

    ``files`` has names by image id; an object is an image id, the id of its
    category, from 1, and x, y, width and height.
    """
    width, height = size
    annotations = []
    for number, (image, category, (x, y, w, h)) in enumerate(objects, 1):
        mask = np.zeros((height, width), np.uint8, order='F')
        mask[y : y + h, x : x + w] = 1
        code = rle.encode(mask)
        code['counts'] = code['counts'].decode()
        annotation = dict(id=number, image_id=image, category_id=category)
        annotation |= dict(bbox=[x, y, w, h], area=w * h, iscrowd=0)
        annotations.append(dict(annotation, segmentation=code))
    return dict(
        images=[
            dict(id=i, file_name=name, width=width, height=height)
            for i, name in files.items()
        ],
        annotations=annotations,
        categories=[dict(id=i, name=n) for i, n in enumerate(classes, 1)],
    )


def write_coco(dataset, folder, classes):
    files = {i: f'{i:012d}.jpg' for i in range(COUNT)}
    for i, name in files.items():
        write(folder / dataset.data_prefix.img / name, scene(i))
    objects = [(i, k, box) for i in files for k, box in enumerate(BOXES, 1)]
    path = folder / dataset.ann_file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco_json(files, objects, classes)))


def voc_object(name, box, difficult=0):
    """Write an object of VOC's XML; the box is its first and last pixels."""
    edges = zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True)
    sides = ''.join(f'<{side}>{value}</{side}>' for side, value in edges)
    return (
        f'<object><name>{name}</name><difficult>{difficult}</difficult>'
        f'<bndbox>{sides}</bndbox></object>'
    )


def voc_xml(*objects, size=(WIDTH, HEIGHT)):
    width, height = size
    return (
        f'<annotation><size><width>{width}</width><height>{height}</height>'
        f'<depth>3</depth></size>{"".join(objects)}</annotation>'
    )


def write_voc(dataset, folder, classes):
    root = folder / dataset.data_prefix.sub_data_root
    objects = [
        voc_object(name, (x + 1, y + 1, x + w, y + h))
        for name, (x, y, w, h) in zip(classes, BOXES, strict=False)
    ]
    (root / 'Annotations').mkdir(parents=True, exist_ok=True)
    for i in range(COUNT):
        write(root / f'JPEGImages/{i:06d}.jpg', scene(i))
        (root / f'Annotations/{i:06d}.xml').write_text(voc_xml(*objects))
    write_list(folder / dataset.ann_file)


def write_segmentation(dataset, kind, folder, num_classes):
    defaults = {}
    for base in reversed(inspect.getmro(kind)):
        defaults |= inspect.signature(base.__init__).parameters
    suffixes = [
        dataset.get(name, defaults[name].default)
        for name in ('img_suffix', 'seg_map_suffix')
    ]
    # Any suffix, where a data set asks for none.
    images = [suffixes[0]] if suffixes[0] else ['.jpg', '.PNG']
    values = [min(k + 1, num_classes) for k in range(len(BOXES))]
    stock = kind.METAINFO.get('classes', ())
    names = dataset.get('metainfo', {}).get('classes', stock)
    if {*names} < {*stock}:  # masks have the numbers of all classes
        values = [stock.index(name) for name in names[1 : len(BOXES) + 1]]
    for i in range(COUNT):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for value, (x, y, w, h) in zip(values, BOXES, strict=True):
            labels[y : y + h, x : x + w] = value
        prefix, image = dataset.data_prefix, images[i % len(images)]
        write(folder / prefix.img_path / f'{i:06d}{image}', scene(i))
        write(folder / prefix.seg_map_path / f'{i:06d}{suffixes[1]}', labels)
    if dataset.get('ann_file'):
        write_list(folder / dataset.ann_file)


def write_list(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{i:06d}\n' for i in range(COUNT)))
