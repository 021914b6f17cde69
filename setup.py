"""Packaging; the tested versions are in requirements/constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
INIT = (ROOT / 'pixcon_mm/__init__.py').read_text(encoding='utf-8')

setup(
    name='pixcon_mm',
    version=re.search(r"__version__ = '(.+)'", INIT)[1],
    description='PixCon pre-training on scene images, for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['pixcon_mm', 'pixcon_mm.*']),
    # An editable install then puts this folder on the path, with the programs
    # beside the package: benchmarks, reproduction.
    package_dir={'': '.'},
    install_requires=[
        'jinja2',
        'matplotlib',
        'numpy',
        'pillow',
        'pyyaml',
        'rich',
        'safetensors',
        'tensorboard',
        'torch>=2.5',
        'torchvision',
    ],
    # Two lines of packages provide mmengine, mmcv, mmpretrain, mmdet and
    # mmseg; these are the maintained ones. Whoever has the others leaves
    # the extras out.
    extras_require={
        'openmmlab': [
            'onedl-mmcv',
            'onedl-mmengine',
            'onedl-mmpretrain',
            'opencv-python-headless',
            # Optional: OpenCV decodes where it is missing.
            'simplejpeg',
        ],
        'det': ['onedl-mmdetection'],
        'seg': ['onedl-mmsegmentation'],
        'dev': [
            'hypothesis',
            'pycocotools',
            'pytest',
            'ruff',
            'scikit-image',
            'timm',
        ],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
    ],
)
