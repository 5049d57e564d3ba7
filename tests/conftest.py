"""Settings of the whole test run."""

import signal

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background: tests of Ctrl-C need the usual handler
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the tensors are small: a second thread costs more than it brings


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test, with the fixtures that it is the first to use, has the same random weights in every run."""
    torch.manual_seed(0)


@pytest.fixture
def opened_by_libsndfile(monkeypatch):
    """Everything that libsndfile is given to read from or write to during the test, as a list that grows."""
    soundfile = pytest.importorskip("soundfile")
    given = []
    plain = soundfile.SoundFile._open
    monkeypatch.setattr(
        soundfile.SoundFile, "_open", lambda self, file, *more: given.append(file) or plain(self, file, *more)
    )
    return given


@pytest.fixture
def frames_read(monkeypatch):
    """The number of frames in each block that soundfile reads during the test, as a list that grows."""
    soundfile = pytest.importorskip("soundfile")
    counts = []
    plain = soundfile.SoundFile.read

    def counted(file, *arguments, **more):
        block = plain(file, *arguments, **more)
        counts.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    return counts
