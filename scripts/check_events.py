"""Find events in recordings of which it is known what happens when: ten clips of ESC-10 each, with silence between.

    python scripts/check_events.py --data shared/data/esc10 --output FOLDER

For each fold of ESC-10, `train_classifier` (hf-gar train) trains a classifier on windows of the clips of the other
folds, the quiet ones with a label of their own, "silence"; `tag_recordings` (hf-gar tag) then finds events in eight
recordings that are made of the fold's 80 clips, in random order, with 2 to 4 s of silence around each.

Printed are the share of the clips during which an event with their label was found; the errors of the onsets of those;
and the event-based F1: an event that is found is right where its label is, and its onset is off by 0.5 s at most
("onset"), or its offset as well, by 0.5 s or half of the event's length ("onset and offset"). A clip in which a dog
barks twice, with a pause, counts as one event.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from hf_gar import load_audio, tag_recordings
from hf_gar.classification.tagger import label_track_path
from hf_gar.evaluation.task_data import open_task
from hf_gar.models.chunks import split_windows
from hf_gar.tiny import TINY
from hf_gar.training.run import train_classifier

RATE = 16000
CLIPS_EACH = 10
GAP_S = (2.0, 4.0)
SILENCE = "silence"
QUIET = 10 ** (-50 / 20)  # of a clip's peak
TOLERANCE_S = 0.5
OFFSET_TOLERANCE = 0.5  # of an event's length


def make_recordings(clips: pd.DataFrame, waveforms: dict[str, np.ndarray], folder: Path) -> pd.DataFrame:
    """Write the recordings of a fold; returns what happens in them: file_name, onset, offset, label."""
    folder.mkdir(parents=True, exist_ok=True)
    fold = int(clips["fold"].iloc[0])
    generator = np.random.default_rng(fold)
    shuffled = clips.sample(frac=1, random_state=generator)
    events = []
    for number in range(len(clips) // CLIPS_EACH):
        pieces = []
        for clip in shuffled.iloc[number * CLIPS_EACH : (number + 1) * CLIPS_EACH].to_dict("records"):
            waveform = waveforms[clip["file_name"]]
            loud = np.flatnonzero(np.abs(waveform) > QUIET * np.abs(waveform).max())
            pieces += [_silence(generator), waveform[loud[0] : loud[-1] + 1]]
            offset = sum(map(len, pieces)) / RATE
            events.append((f"{fold}-{number}.wav", offset - len(pieces[-1]) / RATE, offset, clip["label"]))
        soundfile.write(folder / f"{fold}-{number}.wav", np.concatenate([*pieces, _silence(generator)]), RATE)
    return pd.DataFrame(events, columns=["file_name", "onset", "offset", "label"])


def _silence(generator: np.random.Generator) -> np.ndarray:
    return np.zeros(round(RATE * generator.uniform(*GAP_S)), np.float32)


def write_windows(clips: pd.DataFrame, waveforms: dict[str, np.ndarray], window_s: float, folder: Path) -> pd.DataFrame:
    """Write the clips' windows as a task, whose table is returned: file_name, label, fold."""
    folder.mkdir(parents=True, exist_ok=True)
    length = round(RATE * window_s)
    rows = []
    for clip in clips.to_dict("records"):
        waveform = waveforms[clip["file_name"]]
        for start, window in split_windows(iter([waveform]), length, length):
            is_quiet = np.sqrt(np.mean(window**2)) < QUIET * np.abs(waveform).max()
            name = f"{Path(clip['file_name']).stem}-{start}.wav"
            soundfile.write(folder / name, window, RATE, subtype="FLOAT")
            rows.append((name, SILENCE if is_quiet else clip["label"], clip["fold"]))
    table = pd.DataFrame(rows, columns=["file_name", "label", "fold"])
    table.to_csv(folder / "metadata.csv", index=False)
    return table


def train(model: str, windows: Path, fold: int, folder: Path) -> Path:
    """Train a classifier on the windows of all folds but one, as a repository in the folder."""
    classifier = folder / f"classifier-{fold}"
    if not classifier.exists():
        trained = folder / "classifier"  # beside which the embeddings of all windows stay
        record = train_classifier(model, open_task(windows), trained, test_fold=str(fold))
        print(f"fold {fold}: {record.test.value:.1%} of its windows have the right label", flush=True)
        trained.rename(classifier)
    return classifier


def count_right(expected: pd.DataFrame, found: pd.DataFrame, with_offsets: bool) -> int:
    """How many events of one label in one recording are right: the most that can be matched one to one."""
    onsets = np.abs(np.subtract.outer(expected["onset"].to_numpy(), found["onset"].to_numpy()))
    is_right = onsets <= TOLERANCE_S
    if with_offsets:
        lengths = (expected["offset"] - expected["onset"]).to_numpy()[:, None]
        offsets = np.abs(np.subtract.outer(expected["offset"].to_numpy(), found["offset"].to_numpy()))
        is_right &= offsets <= np.maximum(TOLERANCE_S, OFFSET_TOLERANCE * lengths)
    return int((maximum_bipartite_matching(csr_matrix(is_right), perm_type="column") >= 0).sum())


def report(expected: pd.DataFrame, found: pd.DataFrame) -> None:
    group = ["file_name", "label"]
    right = {False: 0, True: 0}
    errors = []
    by_group = dict(iter(found.groupby(group)))
    for key, events in expected.groupby(group):
        others = by_group.get(key)
        if others is None:
            continue
        for with_offsets in right:
            right[with_offsets] += count_right(events, others, with_offsets)
        for event in events.itertuples():
            during = others[(others["onset"] < event.offset) & (others["offset"] > event.onset)]
            errors += [during["onset"].iloc[0] - event.onset] if len(during) else []
    print(f"{len(expected)} events, {len(found)} found; {len(errors) / len(expected):.1%} overlap one of their label")
    print(
        f"error of those onsets: median {np.median(errors):+.2f} s, absolute {np.median(np.abs(errors)):.2f} s, "
        f"{np.mean(np.abs(errors) <= TOLERANCE_S):.1%} within {TOLERANCE_S} s"
    )
    for with_offsets, count in right.items():
        print(
            f"F1 {'onset and offset' if with_offsets else 'onset'}: {2 * count / (len(expected) + len(found)):.3f} "
            f"(precision {count / max(1, len(found)):.3f}, recall {count / len(expected):.3f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=TINY)
    parser.add_argument("--data", type=Path, required=True, help="the folder of ESC-10")
    parser.add_argument("--output", type=Path, required=True, help="the folder of recordings and jobs")
    parser.add_argument("--window-s", type=float, default=1.0)
    parser.add_argument("--hop-s", type=float, default=0.25)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.5])
    options = parser.parse_args()

    clips = pd.read_csv(options.data / "metadata.csv")
    waveforms = {name: load_audio(str(options.data / name), RATE) for name in clips["file_name"]}
    windows = write_windows(clips, waveforms, options.window_s, options.output / "windows")
    print(f"{len(windows)} windows, {np.sum(windows['label'] == SILENCE)} of them silence", flush=True)
    expected = {}
    for fold in clips["fold"].unique():
        train(options.model, options.output / "windows", fold, options.output)
        of_fold = clips[clips["fold"] == fold]
        expected[fold] = make_recordings(of_fold, waveforms, options.output / f"recordings-{fold}")
    for threshold in options.thresholds:
        jobs = {fold: options.output / f"events-{fold}-{options.hop_s:g}-{threshold:g}" for fold in expected}
        for fold, job in jobs.items():
            tag_recordings(
                options.output / f"recordings-{fold}",
                options.output / f"classifier-{fold}",
                job,
                dtype="float32",
                labels=sorted(clips["label"].unique()),
                timestamps=True,
                window_s=options.window_s,
                hop_s=options.hop_s,
                threshold=threshold,
                label_tracks=True,
            )
        found = pd.concat(pd.read_parquet(path) for job in jobs.values() for path in job.glob("part-*"))
        print(f"threshold {threshold:g}")
        report(pd.concat(expected.values()), found)
    track = label_track_path(options.output / f"events-1-{options.hop_s:g}-{options.thresholds[0]:g}", "1-0.wav")
    print(f"{track}:\n{track.read_text()}")


if __name__ == "__main__":
    main()
