"""No step waits for the device: the host runs ahead and keeps it busy."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pixcon_mm.models import queue_attention
from tests.test_models import tiny

# With an index: without one, PyTorch asks the driver which it is.
DEVICE = 'cuda:0'
needs_fake_cuda = pytest.mark.skipif(
    not torch.backends.cuda.is_built() or torch.__version__ < '2.9',
    reason='PyTorch was built without CUDA, or is older than 2.9 and asks '
    'the driver about fake tensors',
)
aten = torch.ops.aten
VARIANTS = {
    'sr': {},
    'all cells weighed': dict(head=dict(reweight=dict(use_mask=False))),
    'floor': dict(head=dict(mask_rule='floor')),
    'sim': dict(head=dict(reweight=None)),
    'coord': dict(head=dict(matching='coordinate', max_distance=0.7)),
    'moco': dict(loss_lambda=0),
}


class HostSyncError(Exception):
    """An operation for which the host would wait."""


class NoSync(TorchDispatchMode):
    """Host tensors are real, those of CUDA fake, and the host never waits.

    To the device go only tensors of the batch, which the loader pins, and
    arrays so small that the driver takes them along with the command.
    """

    def __init__(self, batch: list[Tensor], small: int = 0):  # bytes
        super().__init__()
        self.batch = {t.untyped_storage().data_ptr() for t in batch}
        self.small = small

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if is_tensor(t)]
        target = torch.device(kwargs.get('device') or 'cpu').type
        if {target, *(t.device.type for t in tensors)} == {'cpu'}:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        packet = func.overloadpacket
        if packet is aten._to_copy:
            goes_to = kwargs.get('device') or args[0].device
            self.check_copy(args[0], goes_to, kwargs.get('non_blocking'))
        elif packet is aten.copy_:
            free = (args[2:] or [kwargs.get('non_blocking')])[0]
            self.check_copy(args[1], args[0].device, free)
        indices = args[1] if packet in (aten.index, aten.index_put_) else ()
        waits = {
            torch.Tag.data_dependent_output,
            torch.Tag.dynamic_output_shape,
        } & set(func.tags)
        if (waits and not indices) or any(
            i is not None and (i.dtype == torch.bool or i.device.type == 'cpu')
            for i in indices
        ):
            raise HostSyncError(str(func))
        return func(*args, **kwargs)

    def check_copy(self, source, device, non_blocking) -> None:
        """Raise unless source may go to the device."""
        from_host = source.device.type == 'cpu'
        if from_host == (torch.device(device).type == 'cpu'):
            return
        # A strided tensor would be packed in memory that is not pinned.
        is_pinned = (
            from_host
            and source.is_contiguous()
            and source.untyped_storage().data_ptr() in self.batch
        )
        is_small = from_host and source.nbytes <= self.small
        if not non_blocking or not (is_pinned or is_small):
            raise HostSyncError(f'copy of {tuple(source.shape)} to {device}')


def is_tensor(value) -> bool:
    return isinstance(value, Tensor)


@pytest.fixture
def fake_cuda(monkeypatch):
    """Use fake CUDA tensors without a GPU; remember no kernels."""
    uncached = queue_attention.has_fused_kernel.__wrapped__
    monkeypatch.setattr(queue_attention, 'has_fused_kernel', uncached)
    # torch.autocast switches itself off where there is no CUDA.
    torch.set_autocast_enabled('cuda', True)
    torch.set_autocast_dtype('cuda', torch.float16)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    torch.clear_autocast_cache()
    torch.set_autocast_enabled('cuda', False)


def photometrics(size):
    """Numbers by which every operation is applied to some images."""
    order = torch.stack([torch.randperm(4) for _ in range(2 * size)])
    some = torch.arange(2 * size).view(size, 2) % 3 == 0
    return dict(
        factors=torch.rand(size, 2, 4),
        order=order.view(size, 2, 4),
        grayscale=some,
        sigma=some.flip(0) * 1.5,
        solarize=~some,
    )


@needs_fake_cuda
@pytest.mark.parametrize('variant', VARIANTS)
def test_a_step_never_waits(request, variant):
    """All but autograd's engine, which asks the driver for streams."""
    model, data = tiny.build(queue_len=6, **VARIANTS[variant]), tiny.batch()
    model.data_preprocessor._non_blocking = True
    data['data_samples']['photometrics'] = photometrics(4)
    batch = [t for t in tree_leaves(data) if is_tensor(t)]
    request.getfixturevalue('fake_cuda')
    model = model.to(DEVICE)
    # Sampled numbers, and rows that follow from them, come from the host.
    with NoSync(batch, small=4 * 5 * 8):
        for _ in range(2):  # the second one wraps around the queue
            result = tiny.losses(model, data)
            model.after_optimizer_step(progress=0.5)
    assert model.image_queue.count == 8
    assert all(loss.device.type == 'cuda' for loss in result.values())


@pytest.mark.gpu
@pytest.mark.parametrize('variant', VARIANTS)
def test_a_step_never_waits_on_cuda(variant):
    model = tiny.build(queue_len=6, **VARIANTS[variant]).cuda()
    model.data_preprocessor._non_blocking = True
    data = tree_map(Tensor.pin_memory, tiny.batch())
    sgd = tiny.sgd(model, lr=0.1, momentum=0.9)
    for mode in ('default', 'error'):  # the first step may wait
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast('cuda', torch.float16):
                loss = sum(tiny.losses(model, data).values())
            loss.backward()
            sgd.step()
            sgd.zero_grad()
            model.after_optimizer_step(progress=0.5)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        torch.cuda.synchronize()
