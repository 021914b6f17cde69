"""No step waits for the device: the host runs ahead and keeps it busy."""

from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pixcon_mm.models import info_nce
from tests.test_models import tiny

pytestmark = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason='PyTorch built without CUDA'
)
DEVICE = 'cuda:0'  # without an index PyTorch asks the driver for it
aten = torch.ops.aten
VARIANTS = {
    'sr': {},
    'sr, all cells weighed': dict(
        head=dict(reweight=dict(power=2, use_mask=False))
    ),
    'floor': dict(head=dict(mask_rule='floor')),
    'sim': dict(head=dict(reweight=None)),
    'coord': dict(head=dict(matching='coordinate', reweight=None)),
    'coord, near': dict(head=dict(matching='coordinate', max_distance=0.7)),
    'moco': dict(loss_lambda=0),
    'naive': dict(
        head=dict(loss=dict(type='QueueInfoNCELoss', backend='naive'))
    ),
    'chunked': dict(
        head=dict(loss=dict(type='QueueInfoNCELoss', backend='chunked'))
    ),
}


@pytest.fixture(autouse=True)
def _kernels(monkeypatch):
    """Forget which kernels were tried on tensors that are not there."""
    monkeypatch.setattr(info_nce, '_FUSED', dict(info_nce._FUSED))


def fake_tensors():
    return FakeTensorMode(allow_non_fake_inputs=True)


@contextmanager
def half_precision():
    """Autocast, which switches itself off where there is no CUDA."""
    torch.set_autocast_enabled('cuda', True)
    torch.set_autocast_dtype('cuda', torch.float16)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled('cuda', False)


class HostSyncError(Exception):
    """An operation for which the host would wait."""


class NoSync(TorchDispatchMode):
    """Host tensors are real, those of CUDA fake, and the host never waits.

    To the device go only the batch, which the loader pins, and arrays so
    small that the driver takes them along with the command; to the host,
    nothing.

    Args:
        batch (list[Tensor]): What may be copied to the device.
        small (int): Bytes of anything else that may.
    """

    def __init__(self, batch: list[Tensor], small: int = 0):
        super().__init__()
        self.batch = {t.untyped_storage().data_ptr() for t in batch}
        self.small = small
        self.copied = 0

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
        elif packet in (aten.index, aten.index_put, aten.index_put_):
            for index in args[1]:
                if index is not None and (
                    index.dtype in (torch.bool, torch.uint8)
                    or index.device.type == 'cpu'
                ):
                    raise HostSyncError(
                        f'{func}: {index.dtype}, {index.device}'
                    )
        elif {
            torch.Tag.data_dependent_output,
            torch.Tag.dynamic_output_shape,
        } & set(func.tags):
            raise HostSyncError(str(func))
        return func(*args, **kwargs)

    def check_copy(self, source, device, non_blocking) -> None:
        """Raise unless source may go to the device."""
        from_host = source.device.type == 'cpu'
        if from_host == (torch.device(device).type == 'cpu'):
            return
        if not from_host:
            raise HostSyncError(f'to the host: {tuple(source.shape)}')
        if not non_blocking:
            raise HostSyncError(f'waits for its copy: {tuple(source.shape)}')
        size = source.numel() * source.element_size()
        self.copied += size
        if size <= self.small:
            return
        # A strided tensor would be packed in memory that is not pinned.
        pinned = source.untyped_storage().data_ptr() in self.batch
        if not (pinned and source.is_contiguous()):
            raise HostSyncError(f'not of the batch: {tuple(source.shape)}')


def is_tensor(value) -> bool:
    return isinstance(value, Tensor)


def build(**options):
    """A model whose queue holds the keys of one step and a half."""
    model = tiny.build(**{'queue_len': 6, **options})
    model.data_preprocessor._non_blocking = True
    return model


def optimizer_of(model):
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(
        trained, lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True
    )


def step(model, sgd, data, differentiate):
    """Do what the training loop does with a batch."""
    with half_precision():
        views = model.data_preprocessor(data, training=True)
        loss, _ = model.parse_losses(model.loss(**views))
    differentiate(loss)
    sgd.step()
    sgd.zero_grad()
    model.after_optimizer_step(progress=0.5)


def two_steps(model, data, small=0):
    """Take two steps on fake CUDA: the second one wraps around the queue.

    The engine of autograd asks the driver, so gradients are made up.
    """

    def differentiate(loss):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    batch = [t for t in tree_leaves(data) if is_tensor(t)]
    with fake_tensors():
        model, watch = model.to(DEVICE), NoSync(batch, small)
        sgd = optimizer_of(model)
        with watch:
            for _ in range(2):
                step(model, sgd, data, differentiate)
    assert model.image_queue.count == 8
    assert all(p.device.type == 'cuda' for p in model.parameters())
    return watch


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_step_never_waits(variant):
    data = tiny.batch()
    watch = two_steps(build(**VARIANTS[variant]), data)
    leaves = [t for t in tree_leaves(data) if is_tensor(t)]
    assert watch.copied == 2 * sum(
        t.untyped_storage().nbytes() for t in leaves
    )


def photometrics(size):
    """Everything is done to some images."""
    order = torch.stack([torch.randperm(4) for _ in range(2 * size)])
    some = torch.arange(2 * size).view(size, 2) % 3 == 0
    return dict(
        factors=torch.rand(size, 2, 4),
        order=order.view(size, 2, 4),
        grayscale=some,
        sigma=some.flip(0) * 1.5,
        solarize=~some,
    )


def test_colours_are_changed_without_waiting():
    data = tiny.batch()
    data['data_samples']['photometrics'] = photometrics(4)
    # Numbers of rows follow from what was drawn, on the host.
    assert two_steps(build(), data, small=4 * 5 * 8).copied


@pytest.mark.parametrize('backend', info_nce.BACKENDS)
def test_the_own_backward_never_waits(backend):
    with fake_tensors():
        query, positive, queue = torch.rand(3, 8, 16, device=DEVICE)
        query = query.half().requires_grad_()
        inputs = query, positive.half(), queue.half()
        with NoSync([]):
            loss = info_nce.info_nce(*inputs, backend=backend).loss
            nodes, found = [loss.grad_fn], 0
            while nodes:
                node = nodes.pop()
                if isinstance(node, BackwardCFunction):
                    node.apply(torch.ones_like(loss))
                    found += 1
                elif node is not None:
                    nodes += [after for after, _ in node.next_functions]
            assert found == (backend != 'naive')


OFFENDERS = {
    'item': lambda x, host: x.sum().item(),
    'float': lambda x, host: float(x[0, 0]),
    'if': lambda x, host: bool((x > 0).any()),
    'nonzero': lambda x, host: x.nonzero(),
    'boolean index': lambda x, host: x[x > 0],
    'boolean assignment': lambda x, host: x.__setitem__(x[:, 0] > 0, x[:1]),
    'index list': lambda x, host: x[:, [1, 0]],
    'index of the host': lambda x, host: x[host.long()],
    'masked_select': lambda x, host: x.masked_select(x > 0),
    'unique': lambda x, host: x.unique(),
    'repeat_interleave': lambda x, host: x.repeat_interleave(x[0].long(), 0),
    'new_tensor': lambda x, host: x.new_tensor([1.0, 2.0]),
    'tensor': lambda x, host: torch.tensor([1.0], device=x.device),
    'to the host': lambda x, host: x.cpu(),
    'to the host, later': lambda x, host: x.to('cpu', non_blocking=True),
    'blocking': lambda x, host: host.to(x.device),
    'blocking assignment': lambda x, host: x.copy_(host),
    'from elsewhere': lambda x, host: x.copy_(host + 1, non_blocking=True),
    'packed': lambda x, host: x[0].copy_(host[:, 0], non_blocking=True),
}


@pytest.mark.parametrize('name', OFFENDERS)
def test_the_watch_sees(name):
    host = torch.ones(2, 2)
    with fake_tensors():
        x = torch.ones(2, 2, device=DEVICE)
        with NoSync([host]):
            x.copy_(host, non_blocking=True)
            with pytest.raises(HostSyncError):
                OFFENDERS[name](x, host)


@pytest.mark.gpu
@pytest.mark.parametrize('variant', VARIANTS)
def test_a_step_never_waits_on_cuda(variant):
    model = build(**VARIANTS[variant]).cuda()
    data = tree_map(Tensor.pin_memory, tiny.batch())
    sgd = optimizer_of(model)

    step(model, sgd, data, Tensor.backward)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        step(model, sgd, data, Tensor.backward)
    finally:
        torch.cuda.set_sync_debug_mode('default')
