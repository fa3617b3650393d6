"""How much memory this machine has, how much of it this process holds, and how it lets go."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from functools import lru_cache
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_OWN_PAGES = Path("/proc/self/statm")
_M_MMAP_THRESHOLD = -3  # of malloc.h
_KEPT_BYTES = 1 << 18


def machine_memory() -> tuple[float, float]:
    """Return bytes in all and free, a container's own limit respected."""
    total = available = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
        available = 1024.0 * float(found.group(1)) if found else available
    except OSError:  # not Linux
        pass
    try:
        limit = float(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):
        return total, available
    return min(total, limit), min(available, limit)


def resident_memory() -> float:
    """Return the bytes of memory that this process holds; 0 where the system does not tell."""
    try:
        return float(_OWN_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 0.0


@lru_cache(maxsize=1)
def give_freed_memory_back() -> None:
    """Have the C library return freed arrays of 256 kB and more to the system at once.

    By default glibc comes to keep blocks of up to 32 MB in its heap, where the arrays of training,
    of many sizes, leave holes that are held and not used: up to twice what is in use. Where the C
    library has no such setting, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
