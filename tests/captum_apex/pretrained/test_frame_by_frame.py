"""Streaming models: the step of a model over the frames of whole clips."""

import pytest
import torch
from torch import nn

from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis
from captum_apex.pretrained import FrameByFrame

CLIPS = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # (clip, frame, channel)


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double().eval()


class Step(nn.Module):
    """An LSTM cell with its two states in one tensor, which is empty at first, as TorchScript models have it."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(5, 4)

    def forward(self, frame, state):
        states = self.cell(frame, tuple(state) if len(state) else None)
        return states[0], torch.stack(states)


def test_a_cell_over_the_frames_is_the_recurrent_layer():
    lstm = seeded(lambda: nn.LSTM(5, 4, batch_first=True))
    model = FrameByFrame(seeded(Step), torch.zeros(0))
    names = {f"{name}_l0": value for name, value in model.step.cell.state_dict().items()}
    lstm.load_state_dict(names)
    for _ in range(2):  # the second call begins anew
        torch.testing.assert_close(model(CLIPS), lstm(CLIPS)[0])


def test_a_step_that_gives_its_state_alone():
    gru = seeded(lambda: nn.GRU(5, 4, batch_first=True))
    cell = seeded(lambda: nn.GRUCell(5, 4))
    gru.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    torch.testing.assert_close(FrameByFrame(cell)(CLIPS), gru(CLIPS)[0])


@pytest.mark.parametrize("n_clips", [1, 2, 3])  # the state of two clips has as many entries as a pair of states
def test_a_cell_whose_state_is_two_tensors(n_clips):
    lstm = seeded(lambda: nn.LSTM(5, 4, batch_first=True))
    cell = seeded(lambda: nn.LSTMCell(5, 4))
    lstm.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    torch.testing.assert_close(FrameByFrame(cell)(CLIPS[:n_clips]), lstm(CLIPS[:n_clips])[0])


def test_a_step_that_gives_three_things_is_refused():
    class Three(nn.Module):
        def forward(self, frame, _):
            return frame, frame, frame

    with pytest.raises(ValueError, match="too many values to unpack"):
        FrameByFrame(Three())(CLIPS)


def test_the_layer_before_it_is_explained_through_the_states():
    """Contributions are gradient × activation of the recurrent layer that does the same."""
    layer = nn.Identity()
    cell = seeded(lambda: nn.GRUCell(5, 4))
    model = nn.Sequential(layer, FrameByFrame(cell), nn.Flatten(), nn.Linear(28, 3)).double().eval()
    bank = FeatureBank.from_dataset(model, layer, list(CLIPS), layout="n t c -> n c 1 t", schemes=["time"])
    basis = PrototypeBasis(torch.eye(5), "time", origin=bank.origin)
    maps = LayerAPEX(model, layer, basis).attribute(CLIPS, 1, n_channels=None)
    gru = seeded(lambda: nn.GRU(5, 4, batch_first=True))
    gru.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    leaf = CLIPS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model[3](gru(leaf)[0].flatten(1))[:, 1].sum(), leaf)
    torch.testing.assert_close(maps[:, 0, 0], (gradient * CLIPS).sum(2))


def test_a_step_must_be_a_module():
    with pytest.raises(TypeError, match="expected `step` to be a torch.nn.Module, but got function"):
        FrameByFrame(lambda frame, state: frame)
