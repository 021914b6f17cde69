"""Time and memory of calls, rounds interleaved, on one device."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Call = Callable[[], object]


def synchronize(device: str) -> None:
    """Wait for the device, so that a clock reads its work."""
    if device == 'cuda':
        torch.cuda.synchronize()


def seconds(call: Call, device: str) -> float:
    """Return the wall time of one call."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def peak_memory(call: Call, device: str) -> int | None:
    """Return the bytes that a call needs at its peak beyond those before it.

    On CPU, the resident set as Linux counts it; None elsewhere.
    """
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    # Memory that was freed would be used again, unseen: return it.
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim:  # glibc alone has it
        trim(0)
    try:
        # 5 resets the high-water mark of the resident set.
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return None
    before = _resident('VmRSS')
    call()
    return max(_resident('VmHWM') - before, 0)


def _resident(field: str) -> int:
    """Return a memory field of this process, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f'/proc/self/status has no field {field}')


def row_of(name: str, times: list[float], **values) -> dict:
    """Return a row of a report: the median of times, in s, and their range."""
    return dict(
        name=name,
        seconds=statistics.median(times),
        spread=(min(times), max(times)),
        **values,
    )


def compare(
    calls: dict[str, Call], rounds: int, device: str, memory: bool = True
) -> list[dict]:
    """Time each call; a round runs each of them once.

    Args:
        calls (dict[str, Callable]): What to run, by name.
        rounds (int): Timed rounds, after one that warms up.
        device (str): 'cpu' or 'cuda'.
        memory (bool): Measure memory, too.

    Returns:
        list[dict]: In the order of the calls: ``name``, median ``seconds``,
        ``spread`` (least, most) and ``bytes`` of extra peak memory.

    Example:
        >>> rows = compare(dict(a=lambda: 1, b=lambda: 2), 3, 'cpu')
        >>> [row['name'] for row in rows]
        ['a', 'b']
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    return [
        row_of(
            name,
            times[name],
            bytes=peak_memory(call, device) if memory else None,
        )
        for name, call in calls.items()
    ]
