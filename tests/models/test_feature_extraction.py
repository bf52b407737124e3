import io

import numpy as np
import pytest
import soundfile
import torch

from hf_gar import ASTFusionFeatureExtractor, load_audio
from tests.conftest import build_tiny, build_tiny_extractor, relative_error, tone


def test_shapes_and_mask(extractor):
    batch = extractor([tone(1), tone(2)], sampling_rate=16000, return_tensors="pt")
    frames = batch["attention_mask"].sum(1)
    time = extractor.max_length or int(frames[1])
    assert batch["input_features"].shape == (2, time, extractor.feature_size)
    assert batch["input_features"].dtype == torch.float32
    assert batch["attention_mask"].shape == (2, time)
    assert 0 < frames[0] < frames[1]


def test_alone_or_in_a_batch(extractor):
    clips = [tone(seconds, seed=index) for index, seconds in enumerate([0.2, 1, 3.3])]
    batch = extractor(clips, sampling_rate=16000, return_tensors="np")
    for index, clip in enumerate(clips):
        alone = extractor(clip, sampling_rate=16000, return_tensors="np")
        own = batch["input_features"][index][batch["attention_mask"][index].astype(bool)]
        expected = alone["input_features"][0][alone["attention_mask"][0].astype(bool)]
        assert relative_error(own, expected) < 1e-6


@pytest.mark.parametrize("kind", ["list", "float64", "tensor", "tuple of tensors", "batch", "batch as a tensor"])
def test_kinds_of_waveforms(extractor, kind):
    clip = tone(1)
    given = {
        "list": clip.tolist(),
        "float64": clip.astype(np.float64),
        "tensor": torch.from_numpy(clip),
        "tuple of tensors": (torch.from_numpy(clip),),
        "batch": clip[None],
        "batch as a tensor": torch.from_numpy(clip)[None],
    }[kind]
    expected = extractor(clip, sampling_rate=16000, return_tensors="np")["input_features"]
    assert np.array_equal(extractor(given, sampling_rate=16000, return_tensors="np")["input_features"], expected)


@pytest.mark.parametrize("is_batch", [False, True])
@pytest.mark.parametrize("kind", ["path", "pathlib", "bytes", "array", "dictionary of bytes"])
def test_recordings_of_other_rates_are_loaded(extractor, tmp_path, kind, is_batch):
    path, stereo = tmp_path / "a.wav", np.stack([tone(1, 8000), tone(1, 8000, seed=1)])
    soundfile.write(path, stereo.T, 8000, subtype="FLOAT")
    recording = {
        "path": str(path),
        "pathlib": path,
        "bytes": path.read_bytes(),
        "array": {"array": stereo, "sampling_rate": 8000},
        "dictionary of bytes": {"bytes": path.read_bytes(), "path": None},
    }[kind]
    found = extractor([recording, tone(1)] if is_batch else recording, sampling_rate=16000 if is_batch else None)
    expected = extractor(load_audio(path, 16000), sampling_rate=16000)
    assert np.array_equal(found["input_features"][0], expected["input_features"][0])


def test_a_missing_file_is_named(extractor):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        extractor(["gone.wav"])


def test_padding_and_truncation_options(extractor):
    def steps(mel_frames: int) -> int:
        return mel_frames * 160 // extractor.hop_length

    options = {"padding": "max_length", "max_length": steps(500)}
    padded = extractor(tone(1), sampling_rate=16000, **options, return_tensors="np")
    assert padded["input_features"].shape[1] == padded["attention_mask"].shape[1] == steps(500)
    with pytest.raises(ValueError, match=rf"Clip 1 of the batch has .* more than max_length={steps(150)} \(1\.5 s\)"):
        extractor([tone(1), tone(2)], sampling_rate=16000, padding="max_length", max_length=steps(150))
    cut = extractor(tone(2), sampling_rate=16000, truncation=True, max_length=60, return_tensors="np")
    assert cut["input_features"].shape[1] == 60
    separate = extractor([tone(1), tone(2)], sampling_rate=16000, padding=False)
    assert len(separate["input_features"][0]) < len(separate["input_features"][1])
    multiple = extractor([tone(1), tone(2)], sampling_rate=16000, pad_to_multiple_of=64, return_tensors="np")
    assert multiple["input_features"].shape[1] % 64 == 0
    for option in ({"padding": "max_length"}, {"truncation": True}):
        if extractor.max_length is None:
            with pytest.raises(ValueError, match=f"max_length in {extractor.steps}: pass it"):
                extractor(tone(1), sampling_rate=16000, **option)


@pytest.mark.parametrize("padding", [True, "longest", "max_length"])
def test_a_network_with_an_input_of_a_fixed_length_gets_it(padding):
    inputs = build_tiny_extractor("ast-fusion")(tone(1), sampling_rate=16000, padding=padding, return_tensors="pt")
    assert inputs["input_features"].shape[1] == 1200
    assert build_tiny("ast-fusion")(**inputs).pooler_output.isfinite().all()


def test_padding_spectrograms_gives_what_a_call_gives(extractor):
    clips = [tone(1), tone(2)]
    expected = extractor(clips, sampling_rate=16000, return_tensors="np")
    spectrograms = extractor.spectrograms(clips)
    # What is there besides stays, as a collate function's labels.
    examples = [{"input_features": clip, "label": index} for index, clip in enumerate(spectrograms)]
    for given in ({"input_features": spectrograms, "label": [0, 1]}, examples):
        padded = extractor.pad(given, return_tensors="pt")
        assert np.array_equal(padded["input_features"], expected["input_features"])
        assert np.array_equal(padded["attention_mask"], expected["attention_mask"])
        assert padded["label"].tolist() == [0, 1]
    again = extractor.pad(expected, padding="max_length", max_length=50_000, return_tensors="np")
    assert again["attention_mask"].sum() == expected["attention_mask"].sum()
    assert "attention_mask" not in extractor.pad({"input_features": spectrograms}, return_attention_mask=False)
    with pytest.raises(ValueError, match="no `input_features` to pad, only label"):
        extractor.pad({"label": [0]})


def test_frame_times(model, extractor):
    with torch.no_grad():
        frames = int(model(**extractor(tone(5), sampling_rate=16000, return_tensors="pt")).frame_mask.sum())
    assert frames == extractor.num_frames(16000 * 5)
    times = extractor.frame_times(frames)
    assert times.shape == (frames,)
    np.testing.assert_allclose(np.diff(times), model.config.frame_hop_s)
    assert 0 < times[0] < model.config.frame_hop_s
    assert 5 - 2 * model.config.frame_hop_s < times[-1] < 5


def test_frame_times_are_where_the_sound_is(model, extractor):
    """A click in silence moves the frame embedding whose time is nearest to it most."""
    if extractor.model_type == "backbone-fusion":
        pytest.skip("its blocks attend to all frames; see test_backbone_fusion.py for what goes into them")
    silence = np.zeros(16000 * 6, np.float32)
    click = silence.copy()
    click[16000 * 3 : 16000 * 3 + 400] = 0.9
    inputs = extractor([silence, click], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        frames = model(**inputs).last_hidden_state
        frames = frames[:, : extractor.num_frames(16000 * 6)]
    changed = (frames[1] - frames[0]).norm(dim=1).argmax()
    assert abs(extractor.frame_times(len(frames[0]))[changed] - 3) < model.config.frame_hop_s


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.empty(0, np.float32), "the waveform is empty"),
        (np.array([0.1, np.nan] * 8000), "8000 samples that are NaN or infinite"),
        ([tone(1), np.full(16000, np.inf)], "waveform 1 of the batch has 16000 samples that are NaN or infinite"),
        ([tone(1), np.empty(0, np.float32)], "waveform 1 of the batch is empty: it holds no samples"),
        ([np.zeros((2, 16000), np.float32)], r"shape \(2, 16000\), expected \(samples,\).*audio.mean\(axis=0\)"),
        (torch.zeros(1, 2, 16000), r"shape \(1, 2, 16000\)"),
        (b"RIFF", "4 bytes cannot be decoded"),
        (io.BytesIO(b"RIFF"), r"an open file\. Pass its path, or its bytes"),
        ({"array": tone(1)}, 'an array, which needs its "sampling_rate" beside it'),
        (None, "not a waveform"),
        ([], "is empty: pass at least one"),
        (np.zeros(16000, np.int16), "integers.*Divide"),
        ([tone(1), None], "waveform 1 of the batch"),
    ],
)
def test_bad_input_is_named(extractor, audio, message):
    with pytest.raises(ValueError, match=message):
        extractor(audio, sampling_rate=16000)


def test_another_rate_is_refused_with_both_rates(extractor):
    with pytest.raises(ValueError, match=r"takes audio at 16000 Hz, but sampling_rate=44100.*[Rr]esample"):
        extractor(tone(1), sampling_rate=44100)


@pytest.mark.parametrize("samples", [1, 1600])
def test_short_clips_are_padded_with_silence(extractor, model, samples):
    short = tone(1)[:samples]
    padded = np.pad(short, (0, max(0, extractor.minimum_samples - samples)))
    inputs = extractor(short, sampling_rate=16000, return_tensors="pt")
    expected = extractor(padded, sampling_rate=16000, return_tensors="pt")
    assert torch.equal(inputs["input_features"], expected["input_features"])
    assert model(**inputs).pooler_output.isfinite().all()


def test_silence_embeds(extractor, model):
    inputs = extractor(np.zeros(16000, np.float32), sampling_rate=16000, return_tensors="pt")
    assert model(**inputs).pooler_output.isfinite().all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"win_length": -4}, "win_length has to be an integer from 16 to 16384, not -4"),
        ({"win_length": 600}, "win_length=600 has to be from hop_length=160 to n_fft=512"),
        ({"n_fft": 2**40}, "n_fft has to be an integer from 16 to 16384, not 1099511627776"),
        ({"n_fft": 512.0}, "n_fft has to be an integer"),
        ({"hop_length": 0}, "hop_length has to be an integer"),
        ({"hop_length": 9000}, "has to be from hop_length=9000 to n_fft=512"),
        ({"feature_size": True}, "feature_size has to be an integer"),
        ({"sampling_rate": "16000"}, "sampling_rate has to be an integer"),
        ({"frequency_max": 1e9}, "frequency_max has to be a number from 0 to"),
        ({"frequency_max": 8001}, "frequency_max=8001 has to be above .* at most half of sampling_rate=16000"),
        ({"frequency_max": float("nan")}, "frequency_max has to be a number .* not nan"),
        ({"frequency_min": -1}, "frequency_min has to be a number"),
        ({"frequency_min": 7900, "frequency_max": 7900}, "has to be above frequency_min=7900"),
        ({"padding_side": "left"}, "padding_side has to be 'right'"),
        ({"return_attention_mask": False}, "return_attention_mask has to be True"),
        ({"chunk_frames": 3}, "chunk_frames is not a field of a"),
        ({"log_mel": 3}, "log_mel is not a field of a"),
        ({"feature_extractor_type": "ASTFeatureExtractor"}, "feature_extractor_type='ASTFeatureExtractor' is another"),
    ],
)
def test_a_wrong_field_is_named(extractor, fields, message):
    of_all = ("padding_side", "return_attention_mask", "chunk_frames", "feature_extractor_type")
    if extractor.model_type == "backbone-fusion" and not fields.keys() & set(of_all):
        pytest.skip("its front end is transformers' own, see test_backbone_fusion.py")
    with pytest.raises(ValueError, match=message):
        type(extractor)(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": float("inf")}, "mean has to be a number from -1000 to 1000, not inf"),
        ({"std": 0}, "std has to be a number from 0.001 to 1000, not 0"),
        ({"max_length": 100_000}, "max_length=100000 makes 119988 patches"),
    ],
)
def test_a_wrong_field_of_ast_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        ASTFusionFeatureExtractor(**fields)


def test_an_extractor_of_another_model_is_refused(extractor, model_type):
    other = "vggish-fusion" if model_type == "cnn14-fusion" else "cnn14-fusion"
    with pytest.raises(ValueError, match=f"has model_type={model_type}, but its model takes {other}"):
        extractor.match(build_tiny(other).config)
