"""The user's classifier: the model, the way from an audio file to its input, and its classes.

- `classifier`: `Classifier`, and `InputDataset`, the recordings as inputs of the model.
- `class_names`: the name of a class from a label or a target.
- `logits`: scores: one per class, of classes that exclude each other or not, and not probabilities already.
- `clip_reading`: the way from a file to an input and to a picture of it.
- `sounds_in_memory`: waveforms with their names and sample rates, alone and as training clips.
- `spectrogram_inputs`: whether inputs are spectrograms on the classifier's axes.
- `transform_frequencies`: whether inputs have the frequencies of the sound.
- `transform_times`: whether inputs have the times of the sound.
"""

from captum_apex.classifiers.classifier import Classifier, InputDataset

__all__ = ["Classifier", "InputDataset"]
