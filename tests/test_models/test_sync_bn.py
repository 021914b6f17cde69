"""SyncBN of two processes on one GPU against one batch norm in float64."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

SIZE = (6, 12, 5, 7)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def via_host(function):
    """NCCL wants a GPU for each process, and gloo's tensors on the host."""

    def call(outputs, *inputs, **options):
        tensors = outputs if isinstance(outputs, list) else [outputs]
        copies = [tensor.cpu() for tensor in tensors]
        first = copies if isinstance(outputs, list) else copies[0]
        inputs = [i.cpu() if torch.is_tensor(i) else i for i in inputs]
        function(first, *inputs, **options)
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)

    return call


def norm_and_input():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(SIZE[1])
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, 3 * torch.randn(SIZE) + 1, torch.randn(SIZE)


def results(norm, images, grad):
    images = images.clone(memory_format=torch.preserve_format)
    images.requires_grad_()
    output = norm(images)
    output.backward(grad)
    return dict(
        output=output.detach(),
        images_grad=images.grad,
        weight_grad=norm.weight.grad,
        bias_grad=norm.bias.grad,
        mean=norm.running_mean,
        var=norm.running_var,
    )


def process(rank, dtype, memory_format, folder):
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2
    )
    dist.all_gather = via_host(dist.all_gather)
    dist.all_reduce = via_host(dist.all_reduce)
    norm, images, grad = norm_and_input()
    # Of uneven size, as at the end of an epoch without drop_last.
    images, grad = (x.split([4, 2])[rank] for x in (images, grad))
    norm = nn.SyncBatchNorm.convert_sync_batchnorm(norm).cuda()
    images, grad = (
        x.to('cuda', dtype).contiguous(memory_format=memory_format)
        for x in (images, grad)
    )
    found = results(norm, images, grad)
    torch.save({k: v.cpu() for k, v in found.items()}, f'{folder}/{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize(
    'memory_format', [torch.contiguous_format, torch.channels_last], ids=str
)
def test_two_processes_share_their_statistics(dtype, memory_format, tmp_path):
    mp.spawn(process, (dtype, memory_format, str(tmp_path)), nprocs=2)
    norm, images, grad = norm_and_input()
    # What rounding to the inputs' type does is not the norm's.
    images, grad = (x.to(dtype).double() for x in (images, grad))
    expected = results(norm.double(), images, grad)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    for name, value in expected.items():
        if name in ('output', 'images_grad'):
            ours = torch.cat([first[name], second[name]])
        elif name in ('mean', 'var'):
            assert torch.equal(first[name], second[name])
            ours = first[name]
        else:
            ours = first[name] + second[name]  # as DDP sums them
        scale = value.abs().max()
        error = (ours.double() - value).abs().max() / scale
        assert error < TOLERANCE[dtype], name
