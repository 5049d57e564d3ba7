"""That freed memory may stay with the process; what it saves is shown by a run's time."""

import platform

import pytest

from benchmarks.runs.allocator import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own")
def test_glibc_takes_the_thresholds():
    assert keep_freed_memory() is True
