"""Datasets whose download says which recordings are for training, validation and test."""

import json
from pathlib import Path

import pandas as pd

from hf_gar.errors import HfGarError


def require_file(download: Path, *names: str) -> Path:
    """The first of these files or folders that is in the download; a HfGarError that names them where none is."""
    for name in names:
        if (download / name).exists():
            return download / name
    raise HfGarError(f"{download} has no {' nor '.join(names)}: unpack the official download there, as it is.")


def read_esc50(download: Path) -> pd.DataFrame:
    """ESC-50 (github.com/karolpiczak/ESC-50): audio/, meta/esc50.csv with filename, fold, category."""
    table = pd.read_csv(require_file(download, "meta/esc50.csv"))
    return pd.DataFrame({"file_name": "audio/" + table["filename"], "label": table["category"], "fold": table["fold"]})


def read_us8k(download: Path) -> pd.DataFrame:
    """UrbanSound8K: audio/fold1/ to fold10/, metadata/UrbanSound8K.csv with slice_file_name, fold, class."""
    table = pd.read_csv(require_file(download, "metadata/UrbanSound8K.csv"))
    paths = "audio/fold" + table["fold"].astype(str) + "/" + table["slice_file_name"]
    return pd.DataFrame({"file_name": paths, "label": table["class"], "fold": table["fold"]})


def read_fsd50k(download: Path) -> pd.DataFrame:
    """FSD50K (zenodo.org/records/4060432): FSD50K.dev_audio/, FSD50K.eval_audio/, FSD50K.ground_truth/*.csv."""
    tables = []
    for part, splits in (("dev", {"train": "train", "val": "valid"}), ("eval", None)):
        table = pd.read_csv(require_file(download, f"FSD50K.ground_truth/{part}.csv"))
        tables.append(
            pd.DataFrame(
                {
                    "file_name": f"FSD50K.{part}_audio/" + table["fname"].astype(str) + ".wav",
                    "label": table["labels"],
                    "split": "test" if splits is None else table["split"].map(splits),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def read_spcv2(download: Path) -> pd.DataFrame:
    """Speech Commands 0.02: a folder a word, validation_list.txt and testing_list.txt."""
    split = {}
    for name, part in (("validation_list.txt", "valid"), ("testing_list.txt", "test")):
        split.update(dict.fromkeys(require_file(download, name).read_text().split(), part))
    paths = sorted(
        path.relative_to(download).as_posix()
        for path in download.glob("*/*.wav")
        if not path.parent.name.startswith(("_", "."))  # _background_noise_ is not a word
    )
    labels = [path.split("/", maxsplit=1)[0] for path in paths]
    return pd.DataFrame({"file_name": paths, "label": labels, "split": [split.get(path, "train") for path in paths]})


def read_vc1(download: Path) -> pd.DataFrame:
    """VoxCeleb1: iden_split.txt (1 train, 2 validation, 3 test), and wav/ or the folders of both parts."""
    lines = [line.split() for line in require_file(download, "iden_split.txt").read_text().splitlines() if line.strip()]
    folders = [download / name for name in ("wav", "dev/wav", "test/wav", "vox1_dev_wav/wav", "vox1_test_wav/wav", ".")]
    speakers = {
        speaker.name: speaker.relative_to(download).as_posix()
        for folder in reversed(folders)
        for speaker in folder.glob("id*")
    }
    rows = []
    for part, path in lines:
        speaker, rest = path.split("/", maxsplit=1)
        rows.append((f"{speakers.get(speaker, 'wav/' + speaker)}/{rest}", speaker, part))
    table = pd.DataFrame(rows, columns=["file_name", "label", "split"])
    return table.assign(split=table["split"].map({"1": "train", "2": "valid", "3": "test"}))


def read_gtzan(download: Path) -> pd.DataFrame:
    """GTZAN: genres/ (or genres_original/), and the fault-filtered lists of Kereliuk et al., 2015.

    The lists train_filtered.txt, valid_filtered.txt and test_filtered.txt, of lines such as "blues/blues.00029.wav",
    are in the folder GTZAN_split of github.com/jongpillee/music_dataset_split.
    """
    genres = require_file(download, "genres", "genres_original")
    rows = []
    for split in ("train", "valid", "test"):
        for line in require_file(download, f"{split}_filtered.txt").read_text().split():
            path = genres / line
            if not path.exists():  # the original download is in the format au
                path = next(
                    (other for other in (path.with_suffix(".au"), path.with_suffix(".wav")) if other.exists()), path
                )
            rows.append((path.relative_to(download).as_posix(), line.split("/", maxsplit=1)[0], split))
    return pd.DataFrame(rows, columns=["file_name", "label", "split"])


def _read_nsynth(download: Path, label: str) -> pd.DataFrame:
    tables = []
    for split in ("train", "valid", "test"):
        examples = require_file(download, f"nsynth-{split}/examples.json")
        notes = json.loads(examples.read_text(encoding="utf-8"))
        tables.append(
            pd.DataFrame(
                {
                    "file_name": [f"nsynth-{split}/audio/{note}.wav" for note in notes],
                    "label": [values[label] for values in notes.values()],
                    "split": split,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def read_nsynth(download: Path) -> pd.DataFrame:
    """NSynth: nsynth-train/, nsynth-valid/, nsynth-test/, each with audio/ and examples.json; instrument families."""
    return _read_nsynth(download, "instrument_family_str")


def read_nspitch(download: Path) -> pd.DataFrame:
    """The same download of NSynth; MIDI pitches."""
    return _read_nsynth(download, "pitch")
