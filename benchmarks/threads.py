"""One thread for a measurement, so that its numbers do not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch and BLAS to one thread on the CPU, so that sums are added in one order; the number is restored.

    Example:
        >>> import torch
        >>> from benchmarks.threads import one_thread
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # for BLAS, which the fits of scikit-learn use
            yield
    finally:
        torch.set_num_threads(before)
