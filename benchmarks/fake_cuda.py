"""CUDA tensors that are not there, for tracing a training step without a GPU.

Under FakeTensorMode an operation needs no device, but autocast and autograd's
engine ask the driver all the same. Each has its stand-in here.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import BackwardCFunction

from pixcon_mm.errors import UserError
from pixcon_mm.models import info_nce

# With an index: without one, PyTorch asks the driver which it is.
DEVICE = 'cuda:0'


@contextmanager
def fake_tensors() -> Iterator[None]:
    """FakeTensorMode that leaves no memory of kernels which never ran.

    Raises:
        UserError: If PyTorch is built without CUDA: it would abort.
    """
    if not torch.backends.cuda.is_built():
        raise UserError(
            'This PyTorch is built without CUDA, so nothing on CUDA can be '
            'traced: install a build with CUDA; it needs no GPU.'
        )
    tried = dict(info_nce._FUSED)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        info_nce._FUSED.clear()
        info_nce._FUSED.update(tried)


@contextmanager
def autocast(device: str, dtype: torch.dtype) -> Iterator[None]:
    """``torch.autocast``, which switches itself off where CUDA is missing.

    Args:
        device (str): Device type.
        dtype (torch.dtype): float32 for none.
    """
    before = torch.is_autocast_enabled(device)
    dtype_before = torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, dtype != torch.float32)
    torch.set_autocast_dtype(device, dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before)
        torch.set_autocast_dtype(device, dtype_before)


def backward(loss: Tensor) -> None:
    """``loss.backward()``, whose engine asks the driver for streams.

    Nodes run in the engine's order, and what a node has saved is freed right
    after it, if nothing but ``loss`` holds the graph. A custom function must
    take its tensors first and use the gradient of its first output only.

    Args:
        loss (Tensor): Scalar; loses its graph.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> backward(x * x)
        >>> x.grad
        tensor(6.)
    """
    root = loss.grad_fn
    edges, inputs = count_edges(root), defaultdict(dict)
    inputs[root][0] = torch.ones_like(loss)
    loss.detach_()
    # The latest first, as in the engine; the count breaks ties.
    ready = [(0, 0, root)]
    # A custom function lives only as long as a node that leads to it.
    keepers = defaultdict(list)
    del root
    with torch.no_grad():
        while ready:
            node = heapq.heappop(ready)[-1]
            outputs = run(node, inputs.pop(node))
            for (after, index), gradient in zip(
                node.next_functions, outputs, strict=False
            ):
                if after is None:
                    continue
                if gradient is not None:
                    add(inputs[after], index, gradient, after)
                if isinstance(after, BackwardCFunction):
                    keepers[after].append(node)
                edges[after] -= 1
                if not edges[after]:
                    del edges[after]
                    latest = -after._sequence_nr()
                    heapq.heappush(ready, (latest, -len(edges), after))
            keepers.pop(node, None)
            node = outputs = gradient = after = None


def count_edges(root) -> Counter:
    """How many edges lead to each node of a graph."""
    edges, stack = Counter(), [root]
    while stack:
        for after, _ in stack.pop().next_functions:
            if after is not None:
                if after not in edges:
                    stack.append(after)
                edges[after] += 1
    return edges


def run(node, inputs: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients that a node passes on; a leaf keeps its own."""
    if isinstance(node, BackwardCFunction):
        return node.apply(inputs[0])
    gradients = [inputs.get(i) for i in range(len(node._input_metadata))]
    if not hasattr(node, 'variable'):
        outputs = node(*gradients)
        return outputs if isinstance(outputs, tuple) else (outputs,)
    leaf = node.variable
    if leaf.grad is None:
        leaf.grad = gradients[0]
    else:
        leaf.grad += gradients[0]
    return ()


def add(inputs: dict[int, Tensor], index: int, gradient: Tensor, node) -> None:
    """Sum the gradients that meet at a node, in its shape and dtype."""
    if not isinstance(node, BackwardCFunction):
        wanted = node._input_metadata[index]
        gradient = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
    if index in inputs:
        gradient = inputs[index] + gradient
    inputs[index] = gradient
