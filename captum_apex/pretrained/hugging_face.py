"""Classifiers from models of Hugging Face's transformers."""

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
from captum_apex.extras import missing_package
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

_EXTRACTOR_ATTRIBUTES = {
    _AST: ("num_mel_bins", "max_length", "do_normalize", "mean", "std"),
    _WHISPER: ("feature_size", "n_fft", "hop_length", "n_samples"),
}

_DECIBELS = 10 / math.log(10)  # dB per unit of the natural logarithm of power


def from_transformers(
    model_or_name: nn.Module | str | os.PathLike,
    *,
    feature_extractor: Any = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    axes: SpectrogramAxes | None = None,
) -> Classifier:
    """A `Classifier` from a model of transformers, with its layer, layout, transform, axes and class names.

    | model | input, time last | layer | grid of the layer |
    | --- | --- | --- | --- |
    | wav2vec 2.0 (and Conformer), HuBERT, WavLM, UniSpeech(-SAT), data2vec, SEW(-D) | waveform | `projector` | 1 row |
    | wav2vec 2.0 BERT | frames of 2 × 80 mel bands | `projector` | 1 row |
    | Whisper | log-mel spectrogram of 30 s | `projector` | 1 row |
    | AST | log-mel spectrogram of 10.24 s | the last but one | patches |
    | ConvNeXt, ConvNeXt V2, EfficientNet, ResNet | your spectrogram | the last stage | (frequency, time) |

    *Grids of one row* fit only the schemes `square` and `time`. A mean and a linear layer follow the projector, so the
    contributions of all channels add up to the logit less the bias. Clips of different length may be padded (see
    `LogitsModel`). The padding that the feature extractors of Whisper and AST add, however, is part of the model's
    input, and a peak can lie in it. These feature extractors also cut: `length` is the number of samples that they
    read, and a warning says where files are longer.

    *Probabilities.* `exclusive` follows from the model's `config.problem_type`. Where the configuration leaves it open,
    say it by `dataclasses.replace(classifier, exclusive=...)`.

    *AST* reads only its two class tokens at the end, so the last layer through which patch tokens act is the last but
    one.
    The modules after it are not linear: attention weights depend on the tokens, and the class tokens themselves add to
    the logit. So the contributions do not add up to the logit; `return_convergence_delta=True` gives the difference.

    *Image classifiers* have no feature extractor for sound. Give with `transform` and `axes` the spectrogram that they
    were trained on. If it is not in dB, also give a function that converts it to dB for pictures, by
    `dataclasses.replace(classifier, decibels=...)`. In the same way, `length` cuts or pads all files to one length.

    Args:
        model_or_name: a model, which is not changed; or a folder that `save_pretrained` wrote; or a name on the Hugging
            Face hub. From a folder or the hub, only safetensors are read, as float32. Nothing is unpickled, and no code
            from the hub is run.
        feature_extractor: feature extractor of transformers. The default is the one that was saved with the weights of
            the model; for a model that was made from a configuration, the default feature extractor for its kind.
        transform: function from a waveform (sample,) to one input (channel, frequency, time), for image classifiers.
        axes: the axes of that spectrogram, for image classifiers.

    Returns:
        The classifier. `transform.feature_extractor` is the feature extractor, and `model.model` the model of
        transformers.

    Raises:
        TypeError: the feature extractor is not one of transformers, or is for other models.
        ValueError: the model is not in the table, or has no layer to explain; `transform` or `axes` is missing; or they
            are given for a model that has a feature extractor.
        OSError: the name cannot be found, or the folder has no safetensors, damaged ones, or no feature extractor.
        ImportError: transformers cannot be imported.

    Example:
        >>> from captum_apex import from_transformers
        >>> from transformers import ASTConfig, ASTForAudioClassification
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 8}
        >>> classifier = from_transformers(ASTForAudioClassification(ASTConfig(**sizes, max_length=100, num_labels=3)))
        >>> classifier.layout
        Layout(pattern='n (f t) c -> n c f t', sizes={'f': 12}, class_tokens=2)
        >>> classifier.class_names
        ['LABEL_0', 'LABEL_1', 'LABEL_2']
    """
    model = _loaded(os.fspath(model_or_name)) if isinstance(model_or_name, (str, os.PathLike)) else model_or_name
    kind = _known_kind([base.__name__ for base in type(model).__mro__], repr(type(model).__name__))
    if kind in _IMAGES:
        return _image_classifier(model, kind, feature_extractor, transform, axes)
    if transform is not None or axes is not None:
        raise ValueError(
            f"expected `transform` and `axes` for image classifiers alone, but {kind} has a `feature_extractor`"
        )
    extractor = _feature_extractor(model, kind) if feature_extractor is None else feature_extractor
    required = ("sampling_rate", "model_input_names", *_EXTRACTOR_ATTRIBUTES.get(kind, ()))
    if not callable(extractor) or not all(hasattr(extractor, name) for name in required):
        raise TypeError(
            f"expected `feature_extractor` to be one of transformers, for {kind}, but got {type(extractor).__name__}"
        )
    if kind == _AST:
        return _patch_classifier(model, extractor)
    if kind == _WHISPER:
        return _whisper_classifier(model, extractor)
    return _frame_classifier(model, kind, extractor)


def _frame_classifier(model: Any, kind: str, extractor: Any) -> Classifier:
    """The classifier for a model with one token per frame and, after them, a projector, a mean and a linear layer."""
    n_rows = model.config.feature_projection_input_dim if kind == _BERT else None
    convolutions = ((), ()) if kind == _BERT else (model.config.conv_kernel, model.config.conv_stride)
    # SEW cannot take padded clips: it pools neighbouring columns, and the last column of a clip with its padding.
    columns = None if kind.startswith("SEW") else partial(frames_of, kernels=convolutions[0], strides=convolutions[1])
    return Classifier(
        LogitsModel(model, columns, n_rows),
        FeatureExtraction(extractor, time_first=kind == _BERT),
        extractor.sampling_rate,
        _class_names(model),
        exclusive=_exclusive(model),
        layer=model.projector,
        layout=Layout("n t c -> n c 1 t"),
        input_layout="n c t" if kind == _BERT else "n t",
        columns=columns,
    )


def _whisper_classifier(model: Any, extractor: Any) -> Classifier:
    rate = extractor.sampling_rate
    axes = SpectrogramAxes(
        rate, extractor.n_fft, extractor.hop_length, n_mels=extractor.feature_size, mel_scale="slaney", f_max=8000.0
    )
    return Classifier(
        LogitsModel(model),
        FeatureExtraction(extractor),
        rate,
        _class_names(model),
        exclusive=_exclusive(model),
        axes=axes,
        decibels=partial(_linear, scale=40.0, offset=-40.0),  # the input is (log10 of power + 4) / 4
        layer=model.projector,
        length=extractor.n_samples,
        layout=Layout("n t c -> n c 1 t"),
        input_layout="n f t",
        short="keep",
    )


def _patch_classifier(model: Any, extractor: Any) -> Classifier:
    config = model.config
    layers = [module for module in model.modules() if type(module).__name__ == "ASTLayer"]
    if len(layers) < 2:
        raise ValueError(
            "expected a model of at least two layers, because patch tokens do not act through the last one, but got "
            f"{len(layers)}"
        )
    # The input is (natural logarithm of power − mean) / (2 · standard deviation), where it is normalised.
    scale, offset = (2 * extractor.std, extractor.mean) if extractor.do_normalize else (1.0, 0.0)
    n_rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    axes = _kaldi_axes(extractor.sampling_rate, extractor.num_mel_bins)
    return Classifier(
        LogitsModel(model, n_rows=config.num_mel_bins),
        FeatureExtraction(extractor, time_first=True),
        extractor.sampling_rate,
        _class_names(model),
        exclusive=_exclusive(model),
        axes=axes,
        decibels=partial(_linear, scale=scale * _DECIBELS, offset=offset * _DECIBELS),
        length=round((extractor.max_length - 1) * axes.hop_length) + axes.n_fft,  # what the frames cover
        layer=layers[-2],
        layout=Layout("n (f t) c -> n c f t", {"f": n_rows}, class_tokens=2),
        input_layout="n f t",
        short="keep",
    )


def _kaldi_axes(rate: int, n_mels: int) -> SpectrogramAxes:
    """The axes of a spectrogram that Kaldi computes, for a sample rate in Hz and a number of mel bands."""
    # Kaldi's frames begin at the first sample and last 25 ms. Padding for the Fourier transform keeps their centres.
    window = int(rate * 0.025)
    hop = int(rate * 0.01)
    return SpectrogramAxes(rate, window, hop, n_mels=n_mels, mel_scale="htk", f_min=20.0, center=False)


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
            f"expected `transform` and `axes` of the spectrogram that {kind} was trained on, because transformers has "
            f"no feature extractor of sound for it, but got {transform} and {axes}; such as from_transformers(model, "
            "transform=lambda waveform: decibels(mel(waveform))[None], axes=SpectrogramAxes.from_transform(mel)) with "
            "a torchaudio MelSpectrogram and AmplitudeToDB"
        )
    encoder = model.base_model.encoder
    layer = encoder.top_activation if kind.startswith("EfficientNet") else encoder.stages[-1]
    return Classifier(
        LogitsModel(model),
        transform,
        round(axes.sample_rate),
        _class_names(model),
        exclusive=_exclusive(model),
        axes=axes,
        layer=layer,
        input_layout="n c f t",
    )


def _linear(inputs: Tensor, scale: float, offset: float) -> Tensor:
    return inputs * scale + offset


def _class_names(model: Any) -> list[str]:
    return [model.config.id2label[index] for index in range(model.config.num_labels)]


def _exclusive(model: Any) -> bool | None:
    """Whether the model gives each clip one class, as far as its configuration says so."""
    problem = str(model.config.problem_type)
    return {"single_label_classification": True, "multi_label_classification": False}.get(problem)


def _known_kind(names: Iterable[str], description: str) -> str:
    """The first of the names that is in `_KNOWN`; `description` describes the model in the error message."""
    kind = next((name for name in names if name in _KNOWN), None)
    if kind is None:
        raise ValueError(
            f"expected a classifier among {', '.join(_KNOWN)}, but got {description}; any other can be explained "
            "by hand: put it into a module whose `forward` returns the logits, and give that, the layer before pooling "
            "and its `layout`, such as 'n t c -> n c 1 t' for tokens over time, to FeatureBank.from_dataset or to a "
            "Classifier"
        )
    return kind


def _loaded(name: str) -> nn.Module:
    """The model in a folder, or on the hub under a name."""
    transformers = _transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        kind = _known_kind(config.architectures or (), f"{name!r} with {config.architectures}")
        return getattr(transformers, kind).from_pretrained(name, use_safetensors=True, dtype=torch.float32)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"expected {name!r} to be a folder that save_pretrained wrote, or a model on the Hugging Face hub, with "
            f"safetensors in it, but got: {_first_line(error)}; without a network, fetch it where there is one "
            f"(hf download {name} --local-dir FOLDER), and give the folder"
        ) from error


def _feature_extractor(model: Any, kind: str) -> Any:
    """The feature extractor that was saved with the model's weights; without weights, the default one for its kind."""
    transformers = _transformers()
    config = model.config
    if model.name_or_path:
        try:
            return transformers.AutoFeatureExtractor.from_pretrained(model.name_or_path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise OSError(
                f"expected a feature extractor beside the weights of {model.name_or_path!r}, but got: "
                f"{_first_line(error)}; pass `feature_extractor`"
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
        raise missing_package("transformers", "transformers", error) from error
    return transformers
