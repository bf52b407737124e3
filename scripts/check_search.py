"""Search among real recordings with a model: are the nearest of the same class, are altered copies found?

    python scripts/check_search.py --data DATA

takes the network in the box, and the recordings in DATA/esc10 and DATA/fsdd; --model names another network, --output
keeps the jobs, which are resumed.

"neighbors" embeds ESC-10 and the spoken digits, and prints which share of the ten nearest is of the query's class,
beside chance and log-mel statistics. Clips of ESC-10 that were cut from one recording share a fold: "other folds" is
the share among the ten nearest of the other folds, "other speakers" likewise. "copies" adds 100 recordings of ESC-10 as
MP3 (FFmpeg, 64 kbit/s, 32 kHz, without the first 0.3 s, 6 dB quieter), and prints how many are found as duplicates of
their originals, and what else is. "segments" looks for 40 clips in recordings of 50 s that are made of them.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from hf_gar import Cnn14FusionFeatureExtractor, EmbeddingIndex, embed_recordings, load_audio, read_job
from hf_gar.search.duplicates import find_duplicates
from hf_gar.tiny import TINY

NEIGHBORS = 10
COPIES = 100
FOLDERS = {"esc10": "fold", "fsdd": "speaker"}  # each with the column by whose values neighbours are held out


def embed(source: Path, model: str, output: Path) -> Path:
    embed_recordings(source, model, output)
    return output


def same_class(index: EmbeddingIndex, labels: np.ndarray, rows: np.ndarray, where: str | None) -> float:
    """The share of the ten nearest that are of the query's class."""
    found = index.search_rows(rows.tolist(), NEIGHBORS, where=where)
    queries, numbers = np.asarray(found["query"][:]), np.asarray(found["row"][:])
    return float((labels[rows[queries]] == labels[numbers]).mean())


def log_mel_statistics(paths: list[Path]) -> np.ndarray:
    """The mean and standard deviation over time of each mel bin, (recording, 128), standardised and of length 1."""
    extractor = Cnn14FusionFeatureExtractor()
    rate = extractor.sampling_rate
    banks = (extractor.spectrograms([load_audio(str(path), rate)])[0] for path in paths)
    statistics = np.array([np.concatenate([bank.mean(axis=0), bank.std(axis=0)]) for bank in banks])
    standardized = (statistics - statistics.mean(axis=0)) / statistics.std(axis=0)
    return standardized / np.linalg.norm(standardized, axis=1, keepdims=True)


def nearest_share(vectors: np.ndarray, labels: np.ndarray, excluded: np.ndarray) -> float:
    """As `same_class`, of vectors; `excluded` (query, row) are not looked among."""
    similarities = np.where(excluded, -2, vectors @ vectors.T)
    nearest = np.argsort(-similarities, axis=1)[:, :NEIGHBORS]
    return float((labels[nearest] == labels[:, None]).mean())


def check_neighbors(options: argparse.Namespace) -> None:
    for name, group in FOLDERS.items():
        job = embed(options.data / name, options.model, options.output / name)
        rows = read_job(job).rows
        labels = rows["label"].to_numpy()
        index = EmbeddingIndex.build(job)
        chance = float(np.mean([(np.sum(labels == label) - 1) / (len(labels) - 1) for label in labels]))
        plain = same_class(index, labels, np.arange(len(labels)), None)
        baseline = log_mel_statistics([options.data / name / file for file in rows["file_name"]])
        print(
            f"{name}: {plain:.1%} of the ten nearest are of the query's class; chance {chance:.1%}, log-mel statistics "
            f"{nearest_share(baseline, labels, np.eye(len(labels), dtype=bool)):.1%}",
            flush=True,
        )
        groups = rows[group].to_numpy()
        shares = [
            same_class(index, labels, np.flatnonzero(groups == value), f"{group} != {value!r}")
            for value in np.unique(groups).tolist()
        ]
        baseline_share = nearest_share(baseline, labels, groups[:, None] == groups)
        print(f"{name}, other {group}s: {np.mean(shares):.1%}; log-mel statistics {baseline_share:.1%}", flush=True)


def check_copies(options: argparse.Namespace) -> None:
    originals = pd.read_csv(options.data / "esc10" / "metadata.csv")["file_name"]
    chosen = originals.sample(COPIES, random_state=0)
    folder = options.output / "copies"
    folder.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        target = folder / f"{Path(name).stem}.mp3"
        alter = ["-ss", "0.3", "-af", "volume=-6dB", "-ar", "32000", "-b:a", "64k"]
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(options.data / "esc10" / name), *alter, str(target)]
        subprocess.run(command, check=True)
    paths = [str(options.data / "esc10" / name) for name in originals]
    copies = [str(folder / f"{Path(name).stem}.mp3") for name in chosen]
    job = options.output / "with-copies"
    embed_recordings([*paths, *copies], options.model, job)
    stems = read_job(job).rows["file_name"].map(lambda name: Path(name).stem).to_numpy()
    found = find_duplicates(EmbeddingIndex.build(job))
    is_copy = np.arange(len(stems)) >= len(paths)
    first, second = found.pairs["row"].to_numpy(), found.pairs["other_row"].to_numpy()
    right = (stems[first] == stems[second]) & (is_copy[first] != is_copy[second])
    # The first three parts of a name are the same where clips were cut from one recording: 1-100032-A, 1-100032-B.
    sources = np.array([stem.rpartition("-")[0] for stem in stems])
    same_source = ~right & (sources[first] == sources[second])
    print(
        f"copies: {right.sum()} of {COPIES} found at a closeness of {found.threshold.closeness:.3f} or more "
        f"({'two groups' if found.threshold.is_clear else 'one group'}); {(~right).sum()} other pairs, "
        f"{same_source.sum()} of them cut from one recording",
        flush=True,
    )
    nearest = EmbeddingIndex.open(job).search_rows(np.flatnonzero(is_copy).tolist(), 1)
    hits = sum(stems[row] == stem for row, stem in zip(nearest["row"][:], stems[is_copy], strict=True))
    print(f"copies: the nearest is the original of {hits} of {COPIES}", flush=True)


def check_segments(options: argparse.Namespace) -> None:
    """Cut into recordings of ten clips, in which 40 of the clips are looked for."""
    originals = pd.read_csv(options.data / "esc10" / "metadata.csv")["file_name"].sample(frac=1, random_state=1)
    folder = options.output / "long"
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, tuple[str, float]] = {}
    for number, names in enumerate(np.array_split(originals.to_numpy(), len(originals) // 10)):
        clips = [load_audio(str(options.data / "esc10" / name), 16000) for name in names]
        starts = np.cumsum([0, *(len(clip) for clip in clips)]) / 16000
        places |= {name: (f"{number:02}.wav", start) for name, start in zip(names, starts, strict=False)}
        soundfile.write(folder / f"{number:02}.wav", np.concatenate(clips), 16000)
    job = options.output / "long-frames"
    embed_recordings(folder, options.model, job, with_frames=True)
    queries = originals.sample(40, random_state=2).tolist()
    paths = [str(options.data / "esc10" / name) for name in queries]
    found = EmbeddingIndex.build(job).search_segments(paths, k=1)
    hits = sum(
        file == places[name][0] and abs(start - places[name][1]) < 0.5
        for name, file, start in zip(queries, found["file_name"][:], found["start_s"][:], strict=True)
    )
    print(f"segments: {hits} of 40 clips are found first within 0.5 s of where they are in 40 recordings of 50 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=TINY, help=f"a folder, or a name on the Hub (default: {TINY})")
    parser.add_argument("--data", type=Path, required=True, help="the folder with esc10 and fsdd")
    parser.add_argument("--output", type=Path, help="the folder of the jobs (default: a temporary one)")
    options = parser.parse_args()
    missing = [str(options.data / name) for name in FOLDERS if not (options.data / name / "metadata.csv").exists()]
    if missing:
        parser.error(f"There is no metadata.csv in {' nor '.join(missing)}. Say where the recordings are (--data).")
    if shutil.which("ffmpeg") is None:
        parser.error("FFmpeg is missing, which makes the copies. Install it (Debian: apt-get install ffmpeg).")
    with tempfile.TemporaryDirectory() as temporary:
        options.output = options.output or Path(temporary)
        for check in (check_neighbors, check_copies, check_segments):
            check(options)


if __name__ == "__main__":
    main()
