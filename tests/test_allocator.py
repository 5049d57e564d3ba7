"""That freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from benchmarks.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(7_000_000)  # 28 MB: 6,836 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own")
def test_tensors_do_not_fault_their_pages_in_again():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * 6_836  # of five blocks, which all would be new
