"""Changes outside of a region: beside a loop over clips and steps, and on functions whose fall is known."""

import pytest
import torch

from captum_apex.attribution import ChannelOutputs
from captum_apex.metrics.prototypes import Misalignment, misalignment
from tests.networks import bare_basis, build, clips

CLIPS = clips(4, seed=3)
INSIDE = torch.zeros(4, 8, 10, dtype=torch.bool)
INSIDE[:, 2:6, 3:7] = True
CHANNELS = [0, 3, 5, 2]


def slow_attack(function, clip, inside, channel, epsilon, step, n_steps):
    """Projected gradient descent on one clip, bin by bin; the values before and of the best step."""
    current = clip.clone()
    best = None
    for number in range(n_steps + 1):
        at = current[None].clone().requires_grad_()
        values = function(at)[0]
        if best is None or values[channel] < best[channel]:
            best = values.detach()
        if number == n_steps:
            break
        (gradient,) = torch.autograd.grad(values[channel], at)
        for row in range(clip.shape[1]):
            for column in range(clip.shape[2]):
                if not inside[row, column]:
                    original = clip[0, row, column].item()
                    moved = current[0, row, column].item() - step * torch.sign(gradient[0, 0, row, column]).item()
                    current[0, row, column] = min(max(moved, original - epsilon), original + epsilon)
    return best


@pytest.mark.parametrize("value", ["peak", "mean"])
@pytest.mark.parametrize("name", ["pooling after relu", "layer norm", "tokens"])
def test_the_attack_is_that_of_a_loop_over_bins(name, value):
    model, layer = build(name)
    function = ChannelOutputs(model, layer, bare_basis(name, "time"), value)
    found = misalignment(function, CLIPS, INSIDE, CHANNELS, epsilon=0.3, step=0.1, n_steps=4, batch_size=3)
    settings = (0.3, 0.1, 4)
    before = function(CLIPS)
    for clip, channel in enumerate(CHANNELS):
        after = slow_attack(function, CLIPS[clip], INSIDE[clip], channel, *settings)
        torch.testing.assert_close(found.after[clip], after, rtol=1e-9, atol=1e-12)
        start, end = before[clip, channel].item(), after[channel].item()
        fall = 1 - max(end, 0) / start if start > 0 else float("nan")
        assert found.fall[clip].item() == pytest.approx(fall, nan_ok=True)
        overtaking = [
            bool(after[k] > after[channel] and not before[clip, k] > before[clip, channel]) for k in range(len(after))
        ]
        assert found.overtaking[clip].tolist() == overtaking
        ranks = [sum(bool(each > values[channel]) for each in values) for values in (before[clip], after)]
        assert found.rank_change[clip].item() == ranks[1] - ranks[0]
    torch.testing.assert_close(found.before, before)
    torch.testing.assert_close(function(found.changed), found.after)
    assert torch.equal(found.changed[:, 0][INSIDE], CLIPS[:, 0][INSIDE])
    assert (found.changed - CLIPS).abs().max() <= 0.3 + 1e-12
    assert (found.changed != CLIPS).any()


def linear(clips):
    """The first channel hears its region, the second all, the third the rest."""
    bins = clips[:, 0]
    return torch.stack([(bins * INSIDE[0]).mean((1, 2)), bins.mean((1, 2)), (bins * ~INSIDE[0]).mean((1, 2))], 1)


def test_a_channel_that_hears_only_its_region_does_not_fall_and_others_fall_as_far_as_they_may():
    ones = torch.ones(3, 1, 8, 10, dtype=torch.float64)
    found = misalignment(linear, ones, INSIDE[:3], [0, 1, 2], epsilon=0.25, step=0.25, n_steps=1)
    share = 1 - 16 / 80  # of the bins are outside
    torch.testing.assert_close(found.fall, torch.tensor([0.0, 0.25 * share, 0.25], dtype=torch.float64))
    anywhere = misalignment(linear, ones, INSIDE[:3] & False, [0, 1, 2], epsilon=0.25, step=0.1, n_steps=5)
    torch.testing.assert_close(anywhere.fall, torch.full((3,), 0.25, dtype=torch.float64))
    nothing = misalignment(linear, ones, INSIDE[:3] | True, [0, 1, 2], epsilon=0.25)
    assert (nothing.fall == 0).all()
    assert not nothing.overtaking.any()
    assert torch.equal(nothing.changed, ones)


def test_the_channels_that_overtake_are_named():
    ones = torch.ones(1, 1, 8, 10, dtype=torch.float64)
    values = linear(ones)[0]  # 0.2, 1, 0.8
    assert values.tolist() == pytest.approx([0.2, 1.0, 0.8])
    found = misalignment(linear, ones, INSIDE[:1], [1], epsilon=2.0, step=0.5, n_steps=4)
    assert found.after[0].tolist() == pytest.approx([0.2, 0.2 - 0.8, -0.8])
    assert found.overtaking.tolist() == [[True, False, False]]  # the third has fallen with it
    assert found.rank_change.tolist() == [1]
    assert found.fall.tolist() == [1]  # below zero is nothing


def test_a_channel_that_is_silent_has_no_fall():
    found = misalignment(linear, -torch.ones(1, 1, 8, 10), INSIDE[:1], [0])
    assert found.fall.isnan().all()
    assert isinstance(found, Misalignment)


def test_waveforms_are_changed_outside_of_their_region_too():
    waveform = torch.ones(1, 4)
    inside = torch.tensor([[True, True, False, False]])
    found = misalignment(lambda x: x.sum(1, keepdim=True), waveform, inside, [0], epsilon=0.5, step=0.5, n_steps=1)
    assert found.changed.tolist() == [[1.0, 1.0, 0.5, 0.5]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="expected `inside` to be bool"):
        misalignment(linear, CLIPS, INSIDE.float(), CHANNELS)
    with pytest.raises(ValueError, match="expected `inside` of the shape of the inputs without their channel axis"):
        misalignment(linear, CLIPS, INSIDE[:3], CHANNELS)
    with pytest.raises(ValueError, match="one channel per clip"):
        misalignment(linear, CLIPS, INSIDE, [0])
    with pytest.raises(ValueError, match=r"of the channels \[0, 7\]"):
        misalignment(linear, CLIPS, INSIDE, [0, 0, 7, 7])
    with pytest.raises(ValueError, match="expected channels from 0 on"):
        misalignment(linear, CLIPS, INSIDE, [0, 0, 0, -1])
    with pytest.raises(ValueError, match="to give a gradient at the inputs, but it gives none"):
        misalignment(lambda x: linear(x).detach(), CLIPS, INSIDE, [0, 0, 0, 0])
    with pytest.raises(ValueError, match="`epsilon`"):
        misalignment(linear, CLIPS, INSIDE, [0] * 4, epsilon=-1)
