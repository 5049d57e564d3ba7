"""Settings of the whole test run."""

import signal

import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background: tests of Ctrl-C need the usual handler
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the tensors are small: a second thread costs more than it brings
