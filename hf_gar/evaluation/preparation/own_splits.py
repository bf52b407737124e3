"""Datasets whose download has no splits: this project's own, by speaker or preset, the same on every machine.

They are not the splits of the paper, so the scores are near to the paper's but not comparable one to one.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from hf_gar.errors import HfGarError
from hf_gar.evaluation.preparation.official_splits import require_file

# Shares of the speakers or presets.
VALID, TEST = 0.1, 0.2
EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
LANGUAGES = ("de", "en", "es", "fr", "it", "ru")


def split_groups(groups: Iterable[str]) -> dict[str, str]:
    """A split for each group (a speaker, a preset): in the order of their names' digests, cut by the shares."""
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    test, valid = round(TEST * len(ordered)), round(VALID * len(ordered))
    return {
        group: "test" if index < test else "valid" if index < test + valid else "train"
        for index, group in enumerate(ordered)
    }


def _table(rows: list[tuple[str, str, str]], download: Path, layout: str) -> pd.DataFrame:
    """The table of rows (path, label, group), the groups split."""
    if not rows:
        raise HfGarError(f"{download} holds no recordings as {layout}: unpack the official download there, as it is.")
    table = pd.DataFrame(sorted(rows), columns=["file_name", "label", "group"])
    return table.assign(split=table["group"].map(split_groups(table["group"]))).drop(columns="group")


def read_voxforge(download: Path) -> pd.DataFrame:
    """VoxForge: the archives of voxforge_urls.txt (`wget -x`), each unpacked where it lies; speaker-disjoint.

    A recording is .../<language>/Trunk/.../<speaker>-<date>-<id>/wav/<name>.wav (or flac/<name>.flac). Submissions of
    "anonymous" are each a speaker of their own.
    """
    rows = []
    for path in download.rglob("*"):
        if path.suffix not in (".wav", ".flac") or path.parent.name not in ("wav", "flac"):
            continue
        way = path.relative_to(download)
        language = next((part.lower() for part in way.parts if part.lower() in LANGUAGES), None)
        submission = path.parent.parent.name
        if language is None or "-" not in submission:
            continue
        speaker = submission.split("-", maxsplit=1)[0].lower()
        group = submission if speaker.startswith("anonymous") else speaker
        rows.append((way.as_posix(), language, group))
    return _table(rows, download, "<language>/.../<speaker>-<date>-<id>/wav/<name>.wav")


def read_cremad(download: Path) -> pd.DataFrame:
    """CREMA-D (github.com/CheyneyComputerScience/CREMA-D): AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav.

    Actor-disjoint. The download has 7,442 recordings; the paper's task has 7,438.
    """
    rows = []
    for path in require_file(download, "AudioWAV").glob("*.wav"):
        actor, _, emotion, _ = path.stem.split("_", maxsplit=3)
        rows.append((path.relative_to(download).as_posix(), EMOTIONS[emotion], actor))
    return _table(rows, download, "AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav")


def read_surge(download: Path) -> pd.DataFrame:
    """Surge (zenodo.org/records/4677097, surge-velocity64-2K.tar): .../<preset>/<MIDI note>.ogg; preset-disjoint."""
    rows = []
    for path in download.rglob("*.ogg"):
        note = re.search(r"\d+", path.stem)
        if note is None or path.name.startswith("."):
            continue
        way = path.relative_to(download)
        rows.append((way.as_posix(), str(int(note.group())), way.parent.as_posix()))
    return _table(rows, download, "<preset>/<MIDI note>.ogg")
