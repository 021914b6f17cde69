"""Time and memory of calls on one device, measured in interleaved rounds."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Call = Callable[[], object]


def synchronize(device: str) -> None:
    """Wait until the device has finished its work, to measure its time."""
    if device == 'cuda':
        torch.cuda.synchronize()


def seconds(call: Call, device: str, repeat: int = 1) -> float:
    """Return the wall time of one call, averaged over ``repeat`` in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / repeat


def peak_memory(call: Call, device: str) -> int | None:
    """Return the peak memory of a call minus the memory before it, in bytes.

    On a CPU this is resident memory as Linux counts it; the result is None on
    other systems.
    """
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    # Return freed memory to the system, as its reuse would not be counted.
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim:  # only glibc has it
        trim(0)
    try:
        # Writing 5 resets the peak of the resident memory.
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return None
    before = _resident('VmRSS')
    call()
    return max(_resident('VmHWM') - before, 0)


def _resident(field: str) -> int:
    """Return a field of /proc/self/status about memory, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f'/proc/self/status has no field {field}')


def row_of(name: str, times: list[float], **values) -> dict:
    """Return a row of a report: median and range of times in seconds."""
    return dict(
        name=name,
        seconds=statistics.median(times),
        spread=(min(times), max(times)),
        **values,
    )


def compare(
    calls: dict[str, Call],
    rounds: int,
    device: str,
    memory: bool = True,
    repeat: int = 1,
) -> list[dict]:
    """Time calls in rounds that run each call once, or several times.

    Args:
        calls (dict[str, Callable]): Calls by name.
        rounds (int): Number of timed rounds, after one to warm up.
        device (str): 'cpu' or 'cuda'.
        memory (bool): Measure memory as well.
        repeat (int): Repetitions of a call in a round, which queue on a GPU:
            for calls so short that the host's part would count otherwise.

    Returns:
        list[dict]: A dict for each call: ``name``, median ``seconds`` of one,
        ``spread`` (minimum, maximum) and ``bytes`` of extra peak memory.

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
            times[name].append(seconds(call, device, repeat))
    return [
        row_of(
            name,
            times[name],
            bytes=peak_memory(call, device) if memory else None,
        )
        for name, call in calls.items()
    ]
