"""A ResNet as a folder for the Hugging Face hub and timm."""

import json

from pixcon_mm.checkpoint.export import encode
from pixcon_mm.checkpoint.torch_file import StateDict

# ImageNet's, in RGB, for values from 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES = ('config.json', 'model.safetensors', 'README.md')
CARD = """---
library_name: timm
tags:
- feature-extraction
- self-supervised-learning
---
# {architecture}, backbone of {source}

Backbone without a classifier, written by {writer}, an implementation of PixCon
(Pang et al., WACV 2024), from `{source}`, whose sha256 is
`{source_sha256}`.

TODO before you publish it: method and data of the training; a licence.

```python
import timm

# Downloaded, or 'hf-hub:OWNER/NAME' once it is on the hub.
model = timm.create_model('local-dir:FOLDER', pretrained=True).eval()
images = ...  # (B, 3, H, W), RGB, normalised as in config.json
features = model.forward_features(images)  # (B, {channels}, H / 32, W / 32)
```

Without `pretrained=True`, timm gives random weights.
"""


def folder_files(
    tensors: StateDict, notes: dict[str, str]
) -> dict[str, bytes]:
    """Return the files of the folder that ``timm.create_model`` loads.

    Args:
        tensors (dict[str, Tensor]): A plain ResNet, under torchvision's
            names, without classifier.
        notes (dict[str, str]): ``architecture`` (``'resnet50'``),
            ``source``, ``source_sha256`` and ``writer``.

    Returns:
        dict[str, bytes]: The content of each of ``FILES``. ``README.md`` is
        the model card; it names no licence.
    """
    channels = 2048 if 'layer1.0.conv3.weight' in tensors else 512
    config = dict(
        architecture=notes['architecture'],
        num_classes=0,
        num_features=channels,
        pretrained_cfg=dict(
            input_size=(3, 224, 224),
            mean=MEAN,
            std=STD,
            interpolation='bilinear',
            first_conv='conv1',
            classifier='fc',
        ),
    )
    card = CARD.format(channels=channels, **notes)
    contents = (
        f'{json.dumps(config, indent=2)}\n'.encode(),
        encode(tensors, 'safetensors', notes),
        card.encode(),
    )
    return dict(zip(FILES, contents, strict=True))
