"""The README's Python blocks run as they stand, one after the other."""

import re
from pathlib import Path

import torch
from torch import nn

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


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    from torchaudio.transforms import MelSpectrogram

    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    mel_spectrogram = MelSpectrogram(16_000, 512, n_mels=64)
    train_set = [(clip, i % 4) for i, clip in enumerate(torch.randn(120, 1, 16, 20))]
    inputs = torch.randn(2, 1, 16, 20)
    names = {
        "model": Classifier().eval(),
        "train_set": train_set,
        "inputs": inputs,
        "silence": torch.zeros_like(inputs),
        "mel_spectrogram": mel_spectrogram,
    }
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "time.safetensors").is_file()
    assert len(capsys.readouterr().out.splitlines()) >= 3
    assert names["fine"].shape == inputs.shape
