"""SyncBN: no waits for the device; two processes against one batch norm."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.modules import _functions
from torch.utils._python_dispatch import TorchDispatchMode

from pixcon_mm.models.sync_bn import skip_search_for_empty_batches
from tests.test_models import tiny

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


@pytest.fixture
def group(tmp_path):
    """Start a process group of one process; returns a function."""

    def start(backend):
        dist.init_process_group(
            backend,
            init_method=f'file://{tmp_path}/group',
            rank=0,
            world_size=1,
        )
        return dist.group.WORLD

    yield start
    dist.destroy_process_group()


def sync_bn(images, norm, group):
    """Apply SyncBN; the module would take BN for a single process."""
    return _functions.SyncBatchNorm.apply(
        images,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.momentum,
        group,
        1,
    )


class CountMasks(TorchDispatchMode):
    """Count the selections by a mask."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten.index:
            self.count += args[1][0].dtype == torch.bool
        return func(*args, **(kwargs or {}))


class TorchWithStatistics:
    """PyTorch with CUDA's kernels of SyncBN, for one process on the CPU."""

    def __getattr__(self, name):
        return getattr(torch, name)

    @property
    def cuda(self):
        capturing = torch.cuda.is_current_stream_capturing
        return SimpleNamespace(
            is_available=lambda: True, is_current_stream_capturing=capturing
        )

    def batch_norm_stats(self, images, eps):
        rows = images.transpose(0, 1).flatten(1)
        return rows.mean(1), (rows.var(1, correction=0) + eps).rsqrt()

    def batch_norm_gather_stats_with_counts(self, images, mean, inverse, *_):
        return mean[0], inverse[0]

    def batch_norm_elemt(self, images, weight, bias, mean, inverse, eps):
        def each(x):
            return x.view(-1, 1, 1)

        return (images - each(mean)) * each(inverse * weight) + each(bias)


@pytest.mark.parametrize(
    ('context', 'masks'),
    [(nullcontext, 3), (skip_search_for_empty_batches, 0)],
)
def test_no_search_for_empty_batches(group, monkeypatch, context, masks):
    norm, images, _ = norm_and_input()
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', bool)
    monkeypatch.setattr(_functions, 'torch', TorchWithStatistics())
    with CountMasks() as found, context():
        output = sync_bn(images, norm, group('gloo'))
    assert found.count == masks
    torch.testing.assert_close(output, norm(images))


def test_all_of_the_loss_has_it_and_it_ends(monkeypatch):
    def original():
        return False

    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', original)
    model, seen = tiny.build(), []
    for part in (model.backbone, model.head.predictor):
        part.register_forward_pre_hook(
            lambda *_: seen.append(torch.cuda.is_current_stream_capturing())
        )
    tiny.losses(model, tiny.batch())
    assert len(seen) > 2
    assert all(seen)
    assert torch.cuda.is_current_stream_capturing is original
    with pytest.raises(ValueError, match='x'), skip_search_for_empty_batches():
        raise ValueError('x')
    assert torch.cuda.is_current_stream_capturing is original


@pytest.mark.gpu
def test_the_host_does_not_wait(group):
    norm, images, _ = (x.cuda() for x in norm_and_input())
    images.requires_grad_()
    nccl = group('nccl')
    sync_bn(images, norm, nccl).sum().backward()  # starts NCCL
    torch.cuda.set_sync_debug_mode('error')
    try:
        with skip_search_for_empty_batches():
            output = sync_bn(images, norm, nccl)
        output.sum().backward()
        with pytest.raises(RuntimeError, match='synchronizing'):
            sync_bn(images, norm, nccl)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(output, norm(images))


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
    with skip_search_for_empty_batches():
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
