"""Limit processes to a share of a core, by control groups of Linux. Needs root."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

VERSION_1 = Path("/sys/fs/cgroup/cpu")
VERSION_2 = Path("/sys/fs/cgroup")
# In microseconds. A process that has used its share waits for the next period, and so do its
# clients.
PERIOD = 10_000


@contextlib.contextmanager
def limited(pids: list[int], share: float) -> Iterator[None]:
    """Limit each of the processes to ``share`` of a core during the block.

    Raise ``OSError`` where that is not permitted or the kernel has no such limit.
    """
    with contextlib.ExitStack() as stack:
        for pid in pids:
            stack.enter_context(_limited(pid, int(PERIOD * share)))
        yield


@contextlib.contextmanager
def _limited(pid: int, quota: int) -> Iterator[None]:
    is_version_1 = (VERSION_1 / "cpu.cfs_quota_us").exists()
    root = VERSION_1 if is_version_1 else VERSION_2
    group = root / f"bench-{pid}"
    group.mkdir()
    try:
        if is_version_1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            (root / "cgroup.procs").write_text(str(pid))  # Only an empty group can be removed.
        group.rmdir()
