"""The normalisation of AST, measured on what a job takes."""

import datasets
import pandas as pd
import pytest
import soundfile

from hf_gar import ASTFusionFeatureExtractor, Cnn14FusionFeatureExtractor, HfGarError, measure_normalization
from tests.conftest import tone


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder as `audiofolder` has it: <label>/<recording>."""
    folder = tmp_path_factory.mktemp("clips")
    for index in range(3):
        path = folder / "ab"[index % 2] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * (index + 1) * tone(0.5 + 0.2 * index, seed=index), 16000)
    return folder


@pytest.fixture(scope="module")
def extractor():
    return ASTFusionFeatureExtractor()


@pytest.fixture(scope="module")
def files(clips):
    return sorted(clips.rglob("*.wav"))


@pytest.fixture(scope="module")
def expected(files, extractor):
    return measure_normalization(datasets.Dataset.from_dict({"audio": list(map(str, files))}), extractor)


def test_of_a_folder_and_of_files(clips, files, extractor, expected):
    assert measure_normalization(clips, extractor) == pytest.approx(expected)
    assert measure_normalization(str(clips), extractor) == pytest.approx(expected)
    assert measure_normalization(files, extractor) == pytest.approx(expected)
    assert measure_normalization(files[0], extractor) != pytest.approx(expected)


def test_of_a_table(files, extractor, expected, tmp_path):
    table = tmp_path / "list.csv"
    pd.DataFrame({"sound": map(str, files)}).to_csv(table, index=False)
    assert measure_normalization(table, extractor, audio_column="sound") == pytest.approx(expected)


def test_of_an_audio_column_without_a_decoder_of_datasets(files, extractor, expected, tmp_path):
    paths = datasets.Dataset.from_dict({"sound": list(map(str, files))}).cast_column("sound", datasets.Audio())
    assert measure_normalization(paths, extractor) == pytest.approx(expected)
    assert measure_normalization(paths.to_iterable_dataset(), extractor) == pytest.approx(expected)
    paths.save_to_disk(tmp_path / "saved")
    assert measure_normalization(tmp_path / "saved", extractor) == pytest.approx(expected)


def test_progress_is_shown(clips, extractor, capsys):
    measure_normalization(clips, extractor)
    shown = capsys.readouterr().err
    assert "Measuring the filter banks" in shown
    assert "3/3" in shown


def test_mistakes_are_named(clips, extractor, tmp_path):
    with pytest.raises(HfGarError, match="there is no such file or folder"):
        measure_normalization("gone", extractor)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HfGarError, match="holds no audio files"):
        measure_normalization(tmp_path / "empty", extractor)
    (tmp_path / "bad.wav").write_text("text")
    with pytest.raises(ValueError, match="no recordings that can be read"):
        measure_normalization(tmp_path / "bad.wav", extractor, skip_unreadable=True)
    soundfile.write(tmp_path / "silent.wav", [0.0] * 16000, 16000)
    with pytest.raises(ValueError, match="all silent"):
        measure_normalization(tmp_path / "silent.wav", extractor)
    with pytest.raises(ValueError, match="is a Cnn14FusionFeatureExtractor, which does not normalise"):
        measure_normalization(clips, Cnn14FusionFeatureExtractor())
