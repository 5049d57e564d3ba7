"""Classifiers of Hugging Face's transformers, with all that the library asks for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.classifiers.classifier import Classifier
from captum_apex.layers.layout import Layout
from captum_apex.pretrained.feature_extraction import FeatureExtraction
from captum_apex.pretrained.logits_model import LogitsModel, frames_of

__all__ = ["from_transformers"]

_AST = "ASTForAudioClassification"
_WHISPER = "WhisperForAudioClassification"
_BERT = "Wav2Vec2BertForSequenceClassification"
_WAVEFORMS = tuple(
    f"{name}ForSequenceClassification"
    for name in (
        "Data2VecAudio",
        "Hubert",
        "SEW",
        "SEWD",
        "UniSpeech",
        "UniSpeechSat",
        "Wav2Vec2",
        "Wav2Vec2Conformer",
        "WavLM",
    )
)
_IMAGES = tuple(f"{name}ForImageClassification" for name in ("ConvNext", "ConvNextV2", "EfficientNet", "ResNet"))
_KNOWN = (_AST, _WHISPER, _BERT, *_WAVEFORMS, *_IMAGES)

_ASKED_OF_EXTRACTORS = {
    _AST: ("num_mel_bins", "do_normalize", "mean", "std"),
    _WHISPER: ("feature_size", "n_fft", "hop_length"),
}

_DECIBELS = 10 / math.log(10)  # in a natural logarithm of power


def from_transformers(
    model_or_name: nn.Module | str | os.PathLike,
    *,
    feature_extractor: Any = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    axes: SpectrogramAxes | None = None,
) -> Classifier:
    """What the classes need for a classifier of Hugging Face's transformers: forward function, layer, layout, axes, class names.

    | model | input, time last | layer | grid |
    | --- | --- | --- | --- |
    | wav2vec 2.0 and its Conformer, HuBERT, WavLM, UniSpeech(-SAT), data2vec, SEW(-D) | waveform | `projector` | 1 row |
    | wav2vec 2.0 BERT | frames of 2 × 80 mel bands | `projector` | 1 row |
    | Whisper | log-mel, of 30 s | `projector` | 1 row |
    | AST | log-mel, of 10.24 s | the last but one | patches |
    | ConvNeXt, ConvNeXt V2, EfficientNet, ResNet | your spectrogram | the last stage | (frequency, time) |

    *Over frames* (1 row) only the schemes `square` and `time` make sense. A mean and a linear layer follow the projector, so the
    contributions of all channels add up to the logit, less the bias. Clips of different length may be padded, see `LogitsModel`; but what
    the feature extractors of Whisper and AST pad is part of the model's input, and can be a peak.

    *AST* reads its two class tokens alone, so the last layer from which patch tokens act is the last but one. What follows is not linear:
    attention weights depend on the tokens, and the class tokens bring a share of their own. So contributions do not add up to the logit;
    `return_convergence_delta=True` says what is missing.

    *Image classifiers* have no feature extractor for sound: say by `transform` and `axes` which spectrogram they were trained on. Where it
    is not in dB, give the way back, to draw it: `dataclasses.replace(found, decibels=...)`. In the same way, `length` cuts and pads files.

    Args:
        model_or_name: a model of yours, which stays as it is; or a folder that `save_pretrained` wrote, or a name on the Hugging Face hub:
            from there safetensors alone are read, in float32. Nothing is unpickled, and no code of the hub is run.
        feature_extractor: of transformers; by default the one that lies beside the model's weights, or for a model that was made from a
            configuration the default one of its kind.
        transform: for image classifiers, from a waveform (sample,) to one input (channel, frequency, time).
        axes: for image classifiers, of that spectrogram.

    Returns:
        A `Classifier`. Its `transform` holds the feature extractor as `.feature_extractor`, its `model` the given one as `.model`.

    Raises:
        TypeError: the feature extractor is none, or one for other models.
        ValueError: the model is none of these, or has no layer to explain; `transform` or `axes` is missing, or is given to a model that
            has a feature extractor.
        OSError: the name is not in reach, has no safetensors or damaged ones, or no feature extractor.
        ImportError: transformers is missing.

    >>> from transformers import ASTConfig, ASTForAudioClassification
    >>> config = ASTConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=8, max_length=100, num_labels=3)
    >>> found = from_transformers(ASTForAudioClassification(config))
    >>> found.layout
    Layout(pattern='n (f t) c -> n c f t', sizes={'f': 12}, class_tokens=2)
    >>> found.model(found.inputs(torch.randn(16000))[None]).shape
    torch.Size([1, 3])
    """
    model = _loaded(os.fspath(model_or_name)) if isinstance(model_or_name, (str, os.PathLike)) else model_or_name
    kind = _known([base.__name__ for base in type(model).__mro__], repr(type(model).__name__))
    if kind in _IMAGES:
        return _image_classifier(model, kind, feature_extractor, transform, axes)
    if transform is not None or axes is not None:
        raise ValueError(
            f"expected `transform` and `axes` for image classifiers alone, but {kind} hears by its `feature_extractor`"
        )
    extractor = _feature_extractor(model, kind) if feature_extractor is None else feature_extractor
    asked = ("sampling_rate", "model_input_names", *_ASKED_OF_EXTRACTORS.get(kind, ()))
    if not callable(extractor) or not all(hasattr(extractor, name) for name in asked):
        raise TypeError(
            f"expected `feature_extractor` to be one of transformers, for {kind}, but got {type(extractor).__name__}"
        )
    if kind == _AST:
        return _patch_classifier(model, extractor)
    if kind == _WHISPER:
        return _whisper_classifier(model, extractor)
    return _frame_classifier(model, kind, extractor)


def _frame_classifier(model: Any, kind: str, extractor: Any) -> Classifier:
    """A model with one token per frame, and a projector, a mean and a linear layer after them."""
    n_rows = model.config.feature_projection_input_dim if kind == _BERT else None
    convolutions = ((), ()) if kind == _BERT else (model.config.conv_kernel, model.config.conv_stride)
    # SEW pools neighbouring columns, the last of a clip with the padding.
    columns = None if kind.startswith("SEW") else partial(frames_of, kernels=convolutions[0], strides=convolutions[1])
    return Classifier(
        LogitsModel(model, columns, n_rows),
        FeatureExtraction(extractor, time_first=kind == _BERT),
        extractor.sampling_rate,
        _class_names(model),
        layer=model.projector,
        layout=Layout("n t c -> n c 1 t"),
        input_layout="n c t" if kind == _BERT else "n t",
        columns=columns,
    )


def _whisper_classifier(model: Any, extractor: Any) -> Classifier:
    rate, n_fft, hop = extractor.sampling_rate, extractor.n_fft, extractor.hop_length
    return Classifier(
        LogitsModel(model),
        FeatureExtraction(extractor),
        rate,
        _class_names(model),
        axes=SpectrogramAxes(rate, n_fft, hop, n_mels=extractor.feature_size, mel_scale="slaney", f_max=8000.0),
        decibels=partial(_linear, scale=40.0, offset=-40.0),  # the input is (log10 of power + 4) / 4
        layer=model.projector,
        layout=Layout("n t c -> n c 1 t"),
        input_layout="n f t",
    )


def _patch_classifier(model: Any, extractor: Any) -> Classifier:
    config, rate = model.config, extractor.sampling_rate
    layers = [module for module in model.modules() if type(module).__name__ == "ASTLayer"]
    if len(layers) < 2:
        raise ValueError(
            f"expected a model of at least two layers, the last of which the patch tokens act through, but got {len(layers)}"
        )
    scale, offset = (2 * extractor.std, extractor.mean) if extractor.do_normalize else (1.0, 0.0)
    n_rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    # Kaldi's frames begin at the first sample and last 25 ms. What is padded for the Fourier transform does not move their centres.
    window, hop = int(rate * 0.025), int(rate * 0.01)
    return Classifier(
        LogitsModel(model, n_rows=config.num_mel_bins),
        FeatureExtraction(extractor, time_first=True),
        rate,
        _class_names(model),
        axes=SpectrogramAxes(
            rate, window, hop, n_mels=extractor.num_mel_bins, mel_scale="htk", f_min=20.0, center=False
        ),
        decibels=partial(_linear, scale=scale * _DECIBELS, offset=offset * _DECIBELS),
        layer=layers[-2],
        layout=Layout("n (f t) c -> n c f t", {"f": n_rows}, class_tokens=2),
        input_layout="n f t",
    )


def _image_classifier(
    model: Any,
    kind: str,
    feature_extractor: Any,
    transform: Callable[[Tensor], Tensor] | None,
    axes: SpectrogramAxes | None,
) -> Classifier:
    if feature_extractor is not None:
        raise ValueError(
            f"expected `transform` and `axes` for {kind}, which takes images, but got a `feature_extractor`"
        )
    if transform is None or axes is None:
        raise ValueError(
            f"expected `transform` and `axes` of the spectrogram that {kind} was trained on, because transformers has no feature extractor "
            f"of sound for it, but got {transform} and {axes}; such as from_transformers(model, transform=lambda waveform: "
            "decibels(mel(waveform))[None], axes=SpectrogramAxes.from_transform(mel)) with a torchaudio MelSpectrogram and AmplitudeToDB"
        )
    encoder = model.base_model.encoder
    layer = encoder.top_activation if kind.startswith("EfficientNet") else encoder.stages[-1]
    return Classifier(
        LogitsModel(model),
        transform,
        round(axes.sample_rate),
        _class_names(model),
        axes=axes,
        layer=layer,
        input_layout="n c f t",
    )


def _linear(inputs: Tensor, scale: float, offset: float) -> Tensor:
    return inputs * scale + offset


def _class_names(model: Any) -> list[str]:
    return [model.config.id2label[index] for index in range(model.config.num_labels)]


def _known(names: Iterable[str], what: str) -> str:
    """The first of the names that is a class this module knows."""
    kind = next((name for name in names if name in _KNOWN), None)
    if kind is None:
        raise ValueError(
            f"expected a classifier among {', '.join(_KNOWN)}, but got {what}; any other can be explained by hand: put it into a module "
            "whose `forward` returns the logits, and give that, the layer before pooling and its `layout`, such as 'n t c -> n c 1 t' for "
            "tokens over time, to FeatureBank.from_dataset or to a Classifier"
        )
    return kind


def _loaded(name: str) -> nn.Module:
    """The model of a folder or of a name on the hub."""
    transformers = _transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        kind = _known(config.architectures or (), f"{name!r} with {config.architectures}")
        return getattr(transformers, kind).from_pretrained(name, use_safetensors=True, dtype=torch.float32)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"expected {name!r} to be a folder that save_pretrained wrote, or a model on the Hugging Face hub, with safetensors in it, but "
            f"got: {_first_line(error)}; without a network, fetch it where there is one (hf download {name} --local-dir FOLDER), and give "
            "the folder"
        ) from error


def _feature_extractor(model: Any, kind: str) -> Any:
    """The feature extractor beside the model's weights; for a model from a configuration, the default one of its kind."""
    transformers, config = _transformers(), model.config
    if model.name_or_path:
        try:
            return transformers.AutoFeatureExtractor.from_pretrained(model.name_or_path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise OSError(
                f"expected a feature extractor beside the weights of {model.name_or_path!r}, but got: {_first_line(error)}; pass "
                "`feature_extractor`"
            ) from error
    if kind == _AST:
        return transformers.ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    if kind == _WHISPER:
        seconds = config.max_source_positions // 50  # a token lasts 20 ms
        return transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=seconds)
    if kind == _BERT:
        bands = config.feature_projection_input_dim // 2
        return transformers.SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands)
    return transformers.Wav2Vec2FeatureExtractor()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            f"expected transformers, but it cannot be imported: pip install 'captum-apex[transformers]' ({error})"
        ) from error
    return transformers
