import http.server
import io
import itertools
import os
import re
import threading
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
import soundfile
import torch

from hf_gar.audio import AudioError, load_audio
from hf_gar.models import audio_integrity, audio_loading
from tests.conftest import real_folder, relative_error, tone


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1), 16000, subtype="FLOAT")
    return path


def test_a_file_at_the_rate_comes_as_it_is(wav):
    waveform = load_audio(wav, 16000)
    assert waveform.dtype == np.float32
    assert np.array_equal(waveform, tone(1))


def test_resampling_and_mixing_is_librosas():
    """librosa.load decodes with soundfile, averages the channels and resamples with soxr_hq."""
    for path in sorted((real_folder("esc10") / "audio").glob("*.ogg"))[:5]:
        expected, _ = librosa.load(path, sr=16000, mono=True, res_type="soxr_hq")
        found = load_audio(path, 16000)
        assert abs(len(found) - len(expected)) <= 1
        length = min(len(found), len(expected))
        assert relative_error(found[:length], expected[:length]) < 1e-5


def test_a_recording_longer_than_a_block_has_no_seams(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(10, 44100), 44100)
    whole = load_audio(path, 16000)
    monkeypatch.setattr(audio_loading, "BLOCK_S", 0.7)
    pieces = load_audio(path, 16000)
    assert len(pieces) == len(whole)
    assert relative_error(pieces, whole) < 1e-6


@pytest.mark.parametrize(("suffix", "rate"), [("wav", 8000), ("flac", 96000), ("ogg", 44100), ("mp3", 48000)])
def test_formats_and_rates(tmp_path, suffix, rate):
    path = tmp_path / f"a.{suffix}"
    time = np.arange(2 * rate) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time), rate)
    waveform = load_audio(path, 16000)
    assert abs(len(waveform) - 32000) <= 2 * 1152  # MP3's encoder pads
    spectrum = np.abs(np.fft.rfft(waveform[4000:20000]))
    assert spectrum.argmax() == 440  # 1 s is looked at: bins of 1 Hz


def test_sources_give_the_same_waveform(wav):
    expected = load_audio(wav, 16000)
    samples = SimpleNamespace(data=torch.from_numpy(tone(1))[None], sample_rate=16000)
    decoder = SimpleNamespace(get_all_samples=lambda: samples, metadata=SimpleNamespace(path="a.wav"))
    sources = [
        str(wav),
        wav.read_bytes(),
        tone(1),
        tone(1).astype(np.float64),
        tone(1).tolist(),
        torch.from_numpy(tone(1)),
        np.stack([tone(1), tone(1)]),
        {"array": tone(1), "sampling_rate": 16000},
        {"raw": tone(1), "sampling_rate": 16000},
        {"bytes": wav.read_bytes(), "path": None},
        {"bytes": None, "path": str(wav)},
        decoder,
    ]
    for source in sources:
        np.testing.assert_allclose(load_audio(source, 16000), expected, atol=1e-7)


def test_an_array_with_its_rate_is_resampled():
    found = load_audio({"array": tone(1, 44100), "sampling_rate": 44100}, 16000)
    expected = librosa.resample(tone(1, 44100), orig_sr=44100, target_sr=16000, res_type="soxr_hq")
    assert relative_error(found[:16000], expected[:16000]) < 1e-5


def test_a_url(wav):
    content = wav.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path == "/b.wav" else 200)
            if self.path == "/cut.wav":
                self.send_header("Content-Length", str(len(content) + 1))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert np.array_equal(load_audio(f"{url}/a.wav", 16000), tone(1))
        with pytest.raises(OSError, match="404"):
            load_audio(f"{url}/b.wav", 16000)
        with pytest.raises(AudioError, match="cannot be fetched: IncompleteRead"):
            load_audio(f"{url}/cut.wav", 16000)
        with pytest.raises(AudioError, match="cannot be fetched: InvalidURL"):
            load_audio(f"{url}/a b.wav", 16000)
    finally:
        server.shutdown()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path, suffix, kept):
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, tone(5), 16000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(AudioError, match=rf"cut\.{suffix} (is cut short|cannot be decoded)"):
        load_audio(path, 16000)


def test_a_wav_written_to_a_pipe_has_no_length_and_is_read(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1), 16000, format="WAV", subtype="PCM_16")
    content = bytearray(buffer.getvalue())
    data = content.index(b"data")
    for start in (4, data + 4):
        content[start : start + 4] = b"\xff\xff\xff\xff"
    assert len(load_audio(bytes(content), 16000)) == 16000


def test_real_recordings_are_told_from_truncated_ones():
    for path in sorted((real_folder("esc10") / "audio").glob("*.ogg"))[::8]:
        assert len(load_audio(path, 16000)) > 16000 * 4.9
        content = path.read_bytes()
        for kept in (0.3, 0.6, 0.9, 0.97):
            with pytest.raises(AudioError, match=r"is cut short|cannot be decoded"):
                load_audio(content[: int(len(content) * kept)], 16000)


def encoded(suffix: str, seconds: float = 5) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * tone(seconds, 44100), 44100, format=suffix)
    return buffer.getvalue()


@pytest.mark.parametrize("replacement", [np.random.default_rng(0).bytes(200), bytes(2000)])
@pytest.mark.parametrize("suffix", ["ogg", "flac"])
def test_damage_in_the_middle_is_told(tmp_path, suffix, replacement):
    content = encoded(suffix)
    middle = len(content) // 2
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(content[:middle] + replacement + content[middle + len(replacement) :])
    with pytest.raises(AudioError, match=rf"damaged\.{suffix} (is damaged|is cut short|cannot be decoded)"):
        load_audio(path, 16000)


def test_pages_that_are_missing_or_out_of_order_are_told():
    content = encoded("ogg")
    starts = [match.start() for match in re.finditer(b"OggS", content)]
    assert len(starts) > 5
    third, fourth, fifth = (slice(first, last) for first, last in itertools.pairwise(starts[3:7]))
    before, after = content[: third.start], content[fifth.start :]
    load_audio(before + content[third] + content[fourth] + after, 16000)
    for wrong in (content[third], content[fourth] + content[third], content[third] + content[fourth] * 2):
        with pytest.raises(AudioError, match="does not follow the one before it"):
            load_audio(before + wrong + after, 16000)


@pytest.mark.parametrize("suffix", ["ogg", "flac", "mp3"])
def test_files_joined_to_one_are_told(tmp_path, suffix):
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(encoded(suffix) * 2)
    with pytest.raises(AudioError, match=rf"joined\.{suffix} holds several recordings one after another"):
        load_audio(path, 16000)


def id3(size: int) -> bytes:
    """An ID3v2 tag with so many bytes of content, below 128."""
    return b"ID3\x04\x00\x00\x00\x00\x00" + bytes([size]) + b"\xff\xfb" * (size // 2)


def test_tags_around_an_mp3_are_no_damage():
    content = encoded("mp3")
    expected = load_audio(content, 16000)
    for tagged in (id3(100) + content, content + b"TAG" + bytes(125), id3(20) + id3(60) + content + bytes(5000)):
        assert np.array_equal(load_audio(tagged, 16000), expected)


def test_an_mp3_whose_length_is_guessed_too_short_is_not_cut():
    """libsndfile guesses it from the first frame, where no header tells it, and reads no further."""
    content = encoded("mp3", 20)
    second = content.index(content[:2], 4)
    assert b"Xing" in content[:second]
    assert soundfile.info(io.BytesIO(content[second:])).duration < 10
    try:
        assert len(load_audio(content[second:], 44100)) >= 20 * 44100
    except AudioError as error:
        assert "no header tells its length" in str(error)  # noqa: PT017 - torchcodec may be missing


def test_damage_within_an_mp3_is_told_and_not_printed(tmp_path, capfd):
    content = encoded("mp3")
    frames = [match.start() for match in re.finditer(re.escape(content[:2]), content)]
    path = tmp_path / "damaged.mp3"
    # A frame less, bytes between two frames, a frame's header, the file's own header.
    for start, stop, new in (
        (frames[20], frames[21], b""),
        (frames[20], frames[20], bytes(50)),
        (frames[20], frames[20] + 2, b"ab"),
        (0, 2, b"ab"),
    ):
        path.write_bytes(content[:start] + new + content[stop:])
        with pytest.raises(AudioError, match=r"damaged\.mp3 (is damaged|is cut short|cannot be decoded)"):
            load_audio(path, 16000)
    # The side information of a frame, which has no checksum: the decoder's own complaint, where it has one.
    errors = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).bytes(30)
        path.write_bytes(content[: frames[20] + 4] + noise + content[frames[20] + 34 :])
        try:
            load_audio(path, 16000)
        except AudioError as error:
            errors += "damaged.mp3 is damaged: " in str(error)
    assert errors
    assert capfd.readouterr() == ("", "")


def test_what_others_print_meanwhile_is_not_lost(capfd):
    with audio_integrity.mpg123_errors() as errors:
        os.write(2, b"[src/libmpg123/layer3.c:INT123_do_layer3():1804] error: dequantization failed!\nanother line\n")
    assert errors == ["dequantization failed!"]
    assert capfd.readouterr().err == "another line\n"


def test_a_git_lfs_pointer_is_named(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    with pytest.raises(AudioError, match=r"a\.wav is a Git LFS pointer.*git lfs pull"):
        load_audio(path, 16000)


@pytest.mark.parametrize("peak", [127, 32767, 1e30, 1e38])
def test_samples_far_outside_of_full_scale_are_refused(tmp_path, peak):
    soundfile.write(tmp_path / "loud.wav", peak * tone(1) / np.abs(tone(1)).max(), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"loud\.wav has samples up to .*expected floats in \[-1, 1\]"):
        load_audio(tmp_path / "loud.wav", 16000)


def broken_files(folder):
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("This is not a recording.\n" * 50)
    soundfile.write(folder / "none.wav", np.empty(0), 16000)
    soundfile.write(folder / "nan.wav", np.full(1600, np.nan), 16000, subtype="FLOAT")
    noise = np.random.default_rng(0).bytes(5000)
    (folder / "noise.mp3").write_bytes(noise)
    (folder / "one_frame.mp3").write_bytes(encoded("mp3")[:600])
    soundfile.write(folder / "header.flac", tone(1), 16000)
    content = bytearray((folder / "header.flac").read_bytes())
    content[2000:2400] = noise[:400]
    (folder / "header.flac").write_bytes(content)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.wav", r"empty \(0 bytes\)"),
        ("text.wav", "cannot be decoded.*Is it audio"),
        ("none.wav", "holds no samples"),
        ("nan.wav", "1600 samples that are NaN"),
        ("noise.mp3", "cannot be decoded"),
        ("one_frame.mp3", "is cut short"),
        ("header.flac", "cannot be decoded|is cut short"),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path, name, message):
    broken_files(tmp_path)
    with pytest.raises(AudioError, match=f"{name}.*({message})"):
        load_audio(tmp_path / name, 16000)


def test_samples_without_a_header_are_named(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"0" * 1000)
    with pytest.raises(AudioError, match=r"a\.raw cannot be decoded: it has no header"):
        load_audio(tmp_path / "a.raw", 16000)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav: there is no such file"):
        load_audio(tmp_path / "gone.wav", 16000)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"array": tone(1)}, "sampling_rate"),
        ({"array": tone(1), "sampling_rate": "16k"}, "'16k'"),
        ({"sampling_rate": 16000}, 'needs "array"'),
        ({"bytes": None, "path": None}, 'needs "array"'),
        (None, "NoneType, not a waveform"),
        (np.zeros((16000, 2), np.float32), "Transpose"),
        (np.zeros(16000, np.int16), "integers"),
        (np.empty(0, np.float32), "empty"),
        ([[0.1, 0.2], [0.1]], "not one waveform"),
    ],
)
def test_a_wrong_source_is_named(source, message):
    with pytest.raises(AudioError, match=message):
        load_audio(source, 16000)


def test_missing_libraries_are_named_with_the_command(wav, monkeypatch):
    monkeypatch.setattr(audio_loading, "soxr", None)
    with pytest.raises(ImportError, match="pip install soxr"):
        load_audio(wav, 8000)
    assert len(load_audio(wav, 16000)) == 16000  # not needed here
    monkeypatch.setattr(audio_loading, "soundfile", None)
    with pytest.raises(ValueError, match="pip install soundfile"):
        load_audio(wav, 16000)
