"""How much memory this machine has, and how much of it this process holds."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_OWN_PAGES = Path("/proc/self/statm")


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
