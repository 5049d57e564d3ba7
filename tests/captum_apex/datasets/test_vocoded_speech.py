"""LJSpeech and its vocoded versions in WaveFake."""

import pytest

from captum_apex.datasets import wavefake
from tests.captum_apex.datasets.tiny_collections import UTTERANCES, write_wavefake


def test_real_and_vocoded_twins_follow_one_another(tmp_path):
    recordings = wavefake(*write_wavefake(tmp_path))
    assert recordings.class_names == ("real", "vocoded")
    assert recordings.labels == (0, 1, 1, 1) * 3
    assert recordings.groups == tuple(utterance for utterance in UTTERANCES for _ in range(4))
    assert recordings.names[:4] == (
        "LJSpeech-1.1/wavs/LJ001-0001.wav",
        "generated_audio/ljspeech_hifiGAN/LJ001-0001_generated.wav",
        "generated_audio/ljspeech_melgan/LJ001-0001_gen.wav",
        "generated_audio/ljspeech_waveglow/LJ001-0001.wav",
    )
    assert recordings.twins(5) == (4, 6, 7)
    assert len(recordings.waveform(5, 8000)) == 160


def test_no_utterance_is_in_both_parts_whatever_the_vocoders(tmp_path):
    folders = write_wavefake(tmp_path)
    train = wavefake(*folders, "train", vocoders=["ljspeech_melgan"])
    test = wavefake(*folders, "test", vocoders=["ljspeech_hifiGAN", "ljspeech_waveglow"])
    assert set(train.groups) == {"LJ001-0001", "LJ040-0002"}
    assert set(test.groups) == {"LJ041-0001"}
    assert (train.labels, test.labels) == ((0, 1, 0, 1), (0, 1, 1))


def test_parts_by_id_are_the_first_thousand_utterances_the_next_thousand_and_the_rest(tmp_path):
    utterances = [f"LJ{1 + number // 300:03}-{1 + number % 300:04}" for number in range(2_003)]
    for folder, suffix in (("wavs", ""), ("ljspeech_melgan", "_gen")):
        (tmp_path / folder).mkdir()
        for utterance in utterances:
            (tmp_path / folder / f"{utterance}{suffix}.wav").touch()
    (tmp_path / "ljspeech_melgan" / f"{utterances[5]}_gen.wav").unlink()  # does not move the others to other parts
    with pytest.warns(UserWarning, match="1 of 2003 utterances are left out"):
        parts = {part: wavefake(tmp_path, tmp_path, part, split_by="id") for part in ("test", "validation", "train")}
    kept = [utterance for utterance in utterances for _ in range(2) if utterance != utterances[5]]
    assert parts["test"].groups == tuple(kept[: 2 * 999])
    assert parts["validation"].groups == tuple(kept[2 * 999 : 2 * 1_999])
    assert parts["train"].groups == tuple(kept[2 * 1_999 :])
    with pytest.warns(UserWarning, match="left out"):
        assert wavefake(tmp_path, tmp_path, split_by="id").groups == tuple(kept)


def test_utterances_without_all_versions_are_left_out_with_a_warning(tmp_path):
    folders = write_wavefake(tmp_path)
    (folders[0] / "wavs" / "LJ001-0001.wav").unlink()
    (folders[1] / "ljspeech_melgan" / "LJ041-0001_gen.wav").unlink()
    with pytest.warns(UserWarning, match="2 of 3 utterances are left out, because they are missing"):
        assert set(wavefake(*folders).groups) == {"LJ040-0002"}


def test_errors_of_wavefake(tmp_path):
    ljspeech, generated = write_wavefake(tmp_path)
    with pytest.raises(FileNotFoundError, match="a folder at .*none.wavs"):
        wavefake(tmp_path / "none", generated)
    with pytest.raises(ValueError, match="`vocoders` among ljspeech_hifiGAN, .*, but got 'ljspeech_mp3'"):
        wavefake(ljspeech, generated, vocoders=["ljspeech_mp3"])
    with pytest.raises(FileNotFoundError, match="a sub-folder per vocoder, such as ljspeech_melgan, in .*wavs"):
        wavefake(ljspeech, ljspeech / "wavs")
    with pytest.raises(ValueError, match="`part`, if it is given, to be one of 'train', 'test', but got 'validation'"):
        wavefake(ljspeech, generated, "validation")
    with pytest.raises(ValueError, match="`part`, .* 'train', 'validation', 'test', but got 'valid'"):
        wavefake(ljspeech, generated, "valid", split_by="id")
    with pytest.raises(ValueError, match="`split_by` to be one of 'chapter', 'id', but got 'speaker'"):
        wavefake(ljspeech, generated, split_by="speaker")
    with pytest.raises(FileNotFoundError, match="there are none for the given arguments"):
        wavefake(ljspeech, generated, "train", split_by="id")
