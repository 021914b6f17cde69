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
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in leaves(cfg[name].dataset):
            kind = DATASETS.get(f'{cfg.default_scope}.{dataset.type}')
            write_dataset(dataset, kind, Path(folder))


def leaves(dataset):
    """The data sets inside wrappers."""
    if 'datasets' in dataset:
        return [leaf for part in dataset.datasets for leaf in leaves(part)]
    return [dataset]


def write_dataset(dataset, kind, folder):
    classes = dataset.get('metainfo', kind.METAINFO)['classes']
    prefix = dataset.data_prefix
    if 'seg_map_path' in prefix:
        write_segmentation(dataset, kind, folder, len(classes))
    elif 'sub_data_root' in prefix:
        write_voc(dataset, folder, classes)
    else:
        write_coco(dataset, folder, classes)


def write_coco(dataset, folder, classes):
    images, annotations = [], []
    for i in range(COUNT):
        name = f'{i:012d}.jpg'
        write(folder / dataset.data_prefix.img / name, scene(i))
        images.append(dict(id=i, file_name=name, width=WIDTH, height=HEIGHT))
        for k, (x, y, w, h) in enumerate(BOXES):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
            mask[y : y + h, x : x + w] = 1
            code = rle.encode(mask)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=k + 1,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=dict(
                        size=code['size'], counts=code['counts'].decode()
                    ),
                )
            )
    path = folder / dataset.ann_file
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [dict(id=i + 1, name=n) for i, n in enumerate(classes)]
    path.write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=categories)
        )
    )


def write_voc(dataset, folder, classes):
    root = folder / dataset.data_prefix.sub_data_root
    for i in range(COUNT):
        write(root / f'JPEGImages/{i:06d}.jpg', scene(i))
        objects = ''.join(
            f'<object><name>{classes[k]}</name><difficult>0</difficult>'
            f'<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
            f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>'
            for k, (x, y, w, h) in enumerate(BOXES)
        )
        path = root / f'Annotations/{i:06d}.xml'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<annotation><size><width>{WIDTH}</width><height>{HEIGHT}'
            f'</height><depth>3</depth></size>{objects}</annotation>'
        )
    write_list(folder / dataset.ann_file, '06d')


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
        for prefix, suffix, content in (
            (
                dataset.data_prefix.img_path,
                images[i % len(images)],
                scene(i),
            ),
            (dataset.data_prefix.seg_map_path, suffixes[1], labels),
        ):
            write(folder / prefix / f'{i:06d}{suffix}', content)
    if dataset.get('ann_file'):
        write_list(folder / dataset.ann_file, '06d')


def write_list(path, form):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{i:{form}}\n' for i in range(COUNT)))
