"""That freed memory stays with the process."""

import resource
import sys

import pytest
import torch

from benchmarks.allocator import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_tensors_do_not_fault_their_pages_in_again():
    assert keep_freed_memory()

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(7_000_000)  # 28 MB: 6,836 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 2 * 6_836  # of five blocks
