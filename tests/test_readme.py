"""The README's Python blocks run as they stand, one after the other."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from captum_apex import Clip, SpectrogramAxes
from tests.networks import PoolingHead

README = Path(__file__).parent.parent / "README.md"


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        net = PoolingHead()
        self.features = nn.Sequential(net.stem, net.features, nn.ReLU())
        self.classifier = net.classifier

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class Tagger(Classifier):
    """A classifier of padded clips, which does not hear the padding."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 2, stride=2), nn.ReLU())

    def forward(self, x, lengths=None):
        if lengths is None:
            return super().forward(x)
        columns = lengths // 2
        features = self.features(x).mean(2)
        own = torch.arange(features.shape[-1]) < columns[:, None]
        return self.classifier((features * own[:, None]).sum(-1) / columns[:, None])


@dataclass
class TrainingClips:
    train_set: list
    axes: SpectrogramAxes

    def __getitem__(self, index):
        return Clip(self.train_set[index][0][0], self.axes, torch.zeros(19 * 256), name=f"{index}.wav")


def save_tiny_transformer(folder):
    """In place of the one on the hub; a folder goes before a name."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 8}
    ASTForAudioClassification(ASTConfig(**sizes, max_length=40)).save_pretrained(folder)
    ASTFeatureExtractor(max_length=40).save_pretrained(folder)


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    mel_spectrogram = MelSpectrogram(16_000, 512, n_mels=16)
    train_set = [(clip, i % 4) for i, clip in enumerate(torch.randn(120, 1, 16, 20))]
    inputs = torch.randn(2, 1, 16, 20)
    (tmp_path / "digits").mkdir()
    for index in range(8):
        soundfile.write(tmp_path / "digits" / f"{index % 4}_theo_{index}.wav", np.full(8000, index / 16), 8000)
    names = {
        "transform": lambda waveform: waveform[:320].reshape(1, 16, 20),
        "test_inputs": torch.randn(8, 1, 16, 20),
        "test_labels": torch.arange(8) % 4,
        "model": Classifier().eval(),
        "train_set": train_set,
        "inputs": inputs,
        "silence": torch.zeros_like(inputs),
        "mel_spectrogram": mel_spectrogram,
        "nn": nn,
        "AmplitudeToDB": AmplitudeToDB,
        "MelSpectrogram": MelSpectrogram,
        "tagger": Tagger().eval(),
        "clips_of_any_length": [torch.randn(1, 16, 8 + i % 12) for i in range(120)],
        "padded": torch.randn(2, 1, 16, 20),
        "lengths": torch.tensor([20, 12]),
        "sounds": torch.randn(120, 1, 6400) / 10,
        "decibels": inputs[0, 0],
        "excerpt": torch.randn(320) / 10,
        "waveforms": torch.randn(120, 6400) / 10,
        "waveform": torch.randn(19 * 256) / 10,
        "class_names": ["siren", "dog", "rain", "wind"],
        "training_clips": TrainingClips(train_set, SpectrogramAxes.from_transform(mel_spectrogram)),
    }
    soundfile.write(tmp_path / "night.wav", np.random.default_rng(0).normal(size=26 * 16_000) / 10, 16_000)
    save_tiny_transformer("MIT/ast-finetuned-audioset-10-10-0.4593")
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "time.safetensors").is_file()
    assert len(capsys.readouterr().out.splitlines()) >= 3
    assert names["fine"].shape == inputs.shape
    assert names["attributions"].shape == (2, 1, 16, 20)
    assert not names["attributions"][1, ..., 12:].any()
    assert (names["of_samples"].shape, names["of_bins"].shape) == ((2, 1, 6400), (2, 1, 16, 26))
    assert names["bank"].labels.tolist() == [1, 2, 3]  # the recordings 5, 6 and 7
    assert (
        (tmp_path / "night.txt").read_text().count("\n")
        == 2 * len((tmp_path / "night.Table.1.selections.txt").read_text().splitlines()[1:])
        > 0
    )
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "evidence.wav").read_bytes().startswith(b"RIFF")
    assert "new.wav" in (tmp_path / "page.html").read_text()
