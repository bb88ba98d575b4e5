"""The memory that this process and its children may use: that of the machine, or of the container that it is in.

Reference:
    Linux kernel documentation, control groups version 2 (`memory.max`) and version 1 (`memory.limit_in_bytes`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def usable_memory_bytes(groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS) -> int:
    """Return the memory of the machine, or the smallest limit of a control group that this process is in.

    Args:
        groups: Where the control groups are mounted.
        own_groups: The file that lists the control groups of this process; without it, the machine counts.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits(groups, own_groups)])


def _limits(groups: Path, own_groups: Path) -> Iterator[int]:
    for line in _text(own_groups).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            home, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            home, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = Path(path.strip("/"))
        for place in (own, *own.parents):  # a limit holds for all groups below it
            limit = _text(home / place / name).strip()
            if limit.isdigit():
                yield int(limit)


def _text(path: Path) -> str:
    """Return the text of a file, "" where it cannot be read: not every system has control groups."""
    return path.read_text(errors="replace") if os.access(path, os.R_OK) else ""
