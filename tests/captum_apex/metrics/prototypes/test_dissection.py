"""Names of channels: p-values against counts and draws, planted names, and names that are not given by chance."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from captum_apex import Box, Clip, Region
from captum_apex.listening import isolate
from captum_apex.metrics.prototypes import PartHits, dissection, part_names, word_names


def random_hits(n_channels=7, n_prototypes=4, n_parts=3):
    generator = torch.Generator().manual_seed(3)
    hits, present = (torch.rand(n_channels, n_prototypes, n_parts, generator=generator) < share for share in (0.3, 0.8))
    return PartHits(tuple("abc"[:n_parts]), hits, present)


def test_the_names_of_parts_have_the_probabilities_of_all_outcomes():
    parts = random_hits()
    found = part_names(parts)
    shown = parts.hits & parts.present
    for channel in range(7):
        p_values, shares = [], []
        for part in range(3):
            chance = shown[:, :, part].sum().item() / parts.present[:, :, part].sum().item()
            number = parts.present[channel, :, part].sum().item()
            count = shown[channel, :, part].sum().item()
            probability = 0.0
            for outcome in product([0, 1], repeat=number):
                if sum(outcome) >= count:
                    probability += math.prod(chance if hit else 1 - chance for hit in outcome)
            p_values.append(min(1.0, 3 * probability))
            shares.append(count / number if number else 0.0)
        best = min(range(3), key=lambda part: (p_values[part], -shares[part]))
        assert found.p_values[channel].item() == pytest.approx(p_values[best], rel=1e-9)
        assert found.scores[channel].item() == pytest.approx(shares[best])
        assert found.best[channel] == "abc"[best]
        assert (channel in found.names) == (p_values[best] <= 0.05)


def test_a_part_that_all_channels_show_names_none():
    hits = torch.ones(20, 5, 1, dtype=torch.bool)
    assert part_names(PartHits(("wind",), hits, hits)).names == {}
    hits = hits.clone()
    hits[1:, 1:] = False  # only the first channel shows it always
    assert part_names(PartHits(("wind",), hits, torch.ones_like(hits))).names == {0: "wind"}
    never = torch.zeros(2, 3, 1, dtype=torch.bool)
    assert part_names(PartHits(("wind",), never, never)).p_values.tolist() == [1.0, 1.0]


def test_parts_and_levels_are_checked():
    empty = torch.zeros(2, 3, 0, dtype=torch.bool)
    with pytest.raises(ValueError, match="expected parts to name channels by"):
        part_names(PartHits((), empty, empty))
    with pytest.raises(ValueError, match="level"):
        part_names(random_hits(), level=1.5)


def embeddings(n_clips=60, n_words=4, dimension=6):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n_clips, dimension, generator=generator), torch.randn(n_words, dimension, generator=generator)


def test_the_score_of_a_word_is_the_mean_deviation_of_its_cosines():
    audio, text = embeddings()
    indices = torch.tensor([[0, 5, 7], [8, 9, 10], [59, 3, 3]])
    found = word_names(indices, audio, text, list("abcd"))
    sounds, texts = (each.double().numpy() / np.linalg.norm(each.double(), axis=1)[:, None] for each in (audio, text))
    cosines = np.array([[np.dot(sound, word) for word in texts] for sound in sounds])
    for channel, clips in enumerate(indices.tolist()):
        scores = []
        for word in range(4):
            column = cosines[:, word]
            deviation = math.sqrt(sum((value - column.mean()) ** 2 for value in column) / len(column))
            scores.append(sum((column[clip] - column.mean()) / deviation for clip in clips) / 3)
        assert found.scores[channel].item() == pytest.approx(max(scores), rel=1e-9)
        assert found.best[channel] == "abcd"[int(np.argmax(scores))]


def test_the_p_value_counts_random_sets_whose_best_word_scores_as_high(monkeypatch):
    monkeypatch.setattr(dissection, "N_DRAWS", 199)
    audio, text = embeddings()
    indices = torch.tensor([[0, 5, 7], [8, 9, 10]])
    found = word_names(indices, audio, text, list("abcd"), seed=4)
    sounds, texts = (each.double() / each.double().norm(dim=1, keepdim=True) for each in (audio, text))
    cosines = sounds @ texts.T
    scores = (cosines - cosines.mean(0)) / cosines.std(0, correction=0)
    generator = torch.Generator().manual_seed(4)
    best = [scores[torch.randperm(60, generator=generator)[:3]].mean(0).max().item() for _ in range(199)]
    for channel in range(2):
        above = sum(value >= found.scores[channel].item() for value in best)
        assert found.p_values[channel].item() == pytest.approx((above + 1) / 200)


def test_planted_words_are_found_and_random_prototypes_seldom_get_one():
    """A made model of audio and text: sounds near the word of their pitch, all of them near the word "sound"."""
    generator = torch.Generator().manual_seed(1)
    words = ["low", "middle", "high", "sound"]
    text = torch.eye(4)
    pitch = torch.arange(300) % 3
    audio = 0.3 * torch.randn(300, 4, generator=generator) + text[pitch] + 3 * text[3]
    planted = torch.stack([(pitch == word).nonzero()[:, 0][:5] for word in range(3)])
    assert word_names(planted, audio, text, words).names == {0: "low", 1: "middle", 2: "high"}
    at_random = torch.stack([torch.randperm(300, generator=generator)[:5] for _ in range(400)])
    share = len(word_names(at_random, audio, text, words).names) / 400
    assert 0.02 < share < 0.09


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": torch.zeros(4, 5)}, r"of one space, but got shapes \(60, 6\) and \(4, 5\)"),
        ({"words": ["a"]}, "an embedding for each of 1 words, but got 4"),
        ({"indices": torch.tensor([[0, 60]])}, "of 60 clips, from 0 to 59, but got 0 to 60"),
        ({"indices": torch.tensor([[0, -1]])}, "but got -1 to 0"),
        ({"indices": torch.tensor([[0.0, 1.0]])}, r"but got \(1, 2\) of torch.float32"),
        ({"indices": torch.tensor([[True, False]])}, "of torch.bool"),
        ({"indices": torch.zeros(0, 3, dtype=torch.int64)}, r"but got \(0, 3\) of torch.int64"),
        ({"audio": torch.ones(60, 6)}, "differ among the clips, but they do not"),
        ({"audio": torch.full((60, 6), torch.nan)}, "differ among the clips, but they do not"),
        ({"level": -0.1}, "level"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(change, message):
    audio, text = embeddings()
    given = {"indices": torch.tensor([[0, 1]]), "audio": audio, "text": text, "words": list("abcd")} | change
    with pytest.raises(ValueError, match=message):
        word_names(**given)


def test_random_sets_that_score_the_same_count_as_high():
    """Means of the same numbers in another order differ in the last bit."""
    generator = torch.Generator().manual_seed(2)
    audio = torch.nn.functional.one_hot(torch.arange(30) % 3, 3) + 0.1 * torch.rand(3, generator=generator)
    same = torch.tensor([[0, 3, 6], [6, 0, 3], [27, 24, 21]])  # all of the first kind
    found = word_names(same, audio, torch.eye(3), ["a", "b", "c"])
    assert len(set(found.p_values.tolist())) == 1


def test_embeddings_may_be_of_a_model_with_gradients():
    audio, text = (each.requires_grad_() for each in embeddings())
    found = word_names(torch.tensor([[0, 5, 7]]), audio, text, list("abcd"))
    assert not found.scores.requires_grad


def test_the_embeddings_of_clap_are_taken_as_the_guide_takes_them():
    transformers = pytest.importorskip("transformers")
    audio_config = {"num_mel_bins": 16, "spec_size": 32, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4]}
    audio_config |= {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16}
    text_config = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_config |= {"intermediate_size": 8, "max_position_embeddings": 20}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        configuration = transformers.ClapConfig(audio_config=audio_config, text_config=text_config, projection_dim=6)
        clap = transformers.ClapModel(configuration).eval()
        features = torch.randn(5, 1, 32, 16)
    with torch.no_grad():
        audio = clap.get_audio_features(input_features=features, is_longer=torch.zeros(5, 1)).pooler_output
        text = clap.get_text_features(input_ids=torch.tensor([[0, 5, 2], [0, 6, 2]])).pooler_output
    assert tuple(audio.shape) == (5, 6)
    found = word_names(torch.tensor([[0, 1], [2, 3]]), audio, text, ["bark", "rain"])
    cosines = torch.nn.functional.cosine_similarity(audio[:, None], text[None], dim=2).double()
    scores = ((cosines - cosines.mean(0)) / cosines.std(0, correction=0))[torch.tensor([[0, 1], [2, 3]])].mean(1)
    torch.testing.assert_close(found.scores, scores.amax(1), atol=1e-3, rtol=1e-3)


def loudness_of_thirds(sound):
    """A made model of audio: the power below 1 kHz, from 1 to 2 kHz, and above, relative to the whole."""
    spectrum = torch.fft.rfft(sound.double()).abs().square()
    bands = torch.stack([part.sum() for part in spectrum.tensor_split([len(spectrum) // 4, len(spectrum) // 2])])
    return bands / bands.sum()


def test_regions_are_named_where_whole_clips_cannot_be():
    """Each clip has two tones, one after the other: the sound of a region is one of them, the clip always both."""
    generator = torch.Generator().manual_seed(0)
    seconds = torch.arange(8000) / 8000
    pitches = torch.stack([torch.randperm(3, generator=generator)[:2] for _ in range(90)])  # (clip, half)
    waveforms = []
    for first, second in pitches.tolist():
        hertz = torch.where(seconds < 0.5, 500.0 + 1000 * first, 500.0 + 1000 * second)
        waveforms.append(torch.sin(2 * torch.pi * hertz * seconds))
    halves = [Region((Box(low=0.0, high=1.0, start=start, end=start + 0.5),)) for start in (0.0, 0.5)]
    # Channel k is of pitch k: its prototypes have it in either half, and its regions lie there.
    indices = torch.stack([(pitches == pitch).any(1).nonzero()[:8, 0] for pitch in range(3)])  # (channel, prototype)
    sounds = []
    for pitch, clips in enumerate(indices.tolist()):
        for clip in clips:
            half = pitches[clip].tolist().index(pitch)
            sounds.append(isolate(Clip.from_waveform(waveforms[clip], 8000), halves[half]))
    words, text = ["low", "middle", "high"], torch.eye(3)
    regions = torch.stack([loudness_of_thirds(sound) for sound in sounds])
    by_region = word_names(torch.arange(24).view(3, 8), regions, text, words)
    assert by_region.names == {0: "low", 1: "middle", 2: "high"}
    assert by_region.p_values.max() < 0.005
    exchanged = torch.arange(24).view(8, 3).T  # regions of all three pitches in each channel
    assert word_names(exchanged, regions, text, words).names == {}
    whole = torch.stack([loudness_of_thirds(waveform) for waveform in waveforms])
    by_clip = word_names(indices, whole, text, words)
    assert (by_clip.p_values > 4 * by_region.p_values).all()
