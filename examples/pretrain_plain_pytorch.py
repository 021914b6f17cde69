"""Pre-train a ResNet-18 with PixCon-SR on a folder, without a Runner."""

import argparse
import logging

import torch
from torch.utils.data import DataLoader

from pixcon_mm import datasets, models

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
MLP = dict(hid_channels=512, norm_cfg=dict(type='BN'))


def main(argv: list[str] | None = None) -> models.PixCon:
    """Return the trained model; save its backbone for torchvision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images', help='folder, searched recursively')
    parser.add_argument('--epochs', type=int, default=100)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--size', type=int, default=224, help='side of views')
    args = parser.parse_args(argv)
    pipeline = [
        datasets.LoadSceneImage(),
        datasets.TwoViewRandomResizedCrop(args.size),
        datasets.TwoViewRandomFlip(),
        datasets.SamplePhotometrics([{}, dict(blur=0.1, solarize=0.2)]),
        datasets.PackTwoViewInputs(),
    ]
    images = datasets.SceneImageDataset(args.images, pipeline)
    loader = DataLoader(images, args.batch, shuffle=True, drop_last=True)
    if len(loader) == 0 or args.batch < 2:
        parser.error(f'--batch must be from 2 to {len(images)}, all images.')
    head = dict(type='PixConHead', loss=dict(type='QueueInfoNCELoss'), **MLP)
    model = models.PixCon(
        backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
        neck=dict(type='PixConNeck', in_channels=512, out_channels=128, **MLP),
        head=dict(head, channels=128, reweight=dict(power=2)),  # only in SR
        queue_len=max(min(4096, len(images) // 4), 1),
        data_preprocessor=dict(mean=MEAN, std=STD, bgr_to_rgb=True),
    )
    logging.disable(logging.INFO)  # MMEngine would list all weights
    model.init_weights()
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    sgd = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=1e-4)
    steps = args.epochs * len(loader)
    batches = (batch for _ in range(args.epochs) for batch in loader)
    for step, batch in enumerate(batches):
        loss = sum(model.loss(**model.data_preprocessor(batch)).values())
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        model.after_optimizer_step(step / steps)
        print(f'step {step + 1} of {steps}: loss {loss:.3f}')
    torch.save(model.backbone.state_dict(), 'backbone.pth')
    return model


if __name__ == '__main__':
    main()
