"""Find events in recordings of which it is known what happens when: ten clips of ESC-10 each, with silence between.

    python scripts/check_events.py --data shared/data/esc10 --output FOLDER

For each fold of ESC-10, a classifier is trained on windows of the clips of the other folds, the quiet ones with a label
of their own, "silence"; `tag_recordings` then finds events in eight recordings that are made of the fold's 80 clips, in
random order, with 2 to 4 s of silence around each. Printed are the share of the clips during which an event with their
label was found; the errors of the onsets of those; and the event-based F1: an event that is found is right where its
label is, and its onset is off by 0.5 s at most ("onset"), or its offset as well, by 0.5 s or half of the event's length
("onset and offset"). A clip from which a dog barks twice, with a pause, counts as one event.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hf_gar import AudioEmbedder, load_audio, tag_recordings
from hf_gar.classification.tagger import label_track_path
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models.chunks import split_windows
from hf_gar.tiny import TINY

RATE = 16000
CLIPS_EACH = 10
GAP_S = (2.0, 4.0)
SILENCE = "silence"
QUIET = 10 ** (-50 / 20)  # of a clip's peak
REGULARIZATION = 1e-3  # scikit-learn's C
TOLERANCE_S = 0.5
OFFSET_TOLERANCE = 0.5  # of an event's length


@dataclass(frozen=True)
class Windows:
    """The windows of the training clips: their embeddings (window, D), labels and folds, (window,)."""

    embeddings: np.ndarray
    labels: np.ndarray
    folds: np.ndarray


def make_recordings(clips: pd.DataFrame, waveforms: dict[str, np.ndarray], folder: Path) -> pd.DataFrame:
    """Write the recordings of a fold; returns what happens in them: file_name, onset, offset, label."""
    folder.mkdir(parents=True, exist_ok=True)
    fold = int(clips["fold"].iloc[0])
    generator = np.random.default_rng(fold)
    shuffled = clips.sample(frac=1, random_state=generator)
    events = []
    for number in range(len(clips) // CLIPS_EACH):
        pieces = []
        for clip in shuffled.iloc[number * CLIPS_EACH : (number + 1) * CLIPS_EACH].itertuples():
            loud = np.flatnonzero(np.abs(waveforms[clip.file_name]) > QUIET * np.abs(waveforms[clip.file_name]).max())
            pieces += [_silence(generator), waveforms[clip.file_name][loud[0] : loud[-1] + 1]]
            offset = sum(map(len, pieces)) / RATE
            events.append((f"{fold}-{number}.wav", offset - len(pieces[-1]) / RATE, offset, clip.label))
        soundfile.write(folder / f"{fold}-{number}.wav", np.concatenate([*pieces, _silence(generator)]), RATE)
    return pd.DataFrame(events, columns=["file_name", "onset", "offset", "label"])


def _silence(generator: np.random.Generator) -> np.ndarray:
    return np.zeros(round(RATE * generator.uniform(*GAP_S)), np.float32)


def embed_windows(clips: pd.DataFrame, waveforms: dict[str, np.ndarray], model: str, window_s: float) -> Windows:
    length = round(RATE * window_s)
    windows, labels, folds = [], [], []
    for clip in clips.itertuples():
        waveform = waveforms[clip.file_name]
        for _, window in split_windows(iter([waveform]), length, length):
            is_quiet = np.sqrt(np.mean(window**2)) < QUIET * np.abs(waveform).max()
            windows.append({"array": window, "sampling_rate": RATE})
            labels.append(SILENCE if is_quiet else clip.label)
            folds.append(clip.fold)
    embeddings = np.stack([embedding.clip for embedding in AudioEmbedder(model, dtype="float32").embed(windows)])
    return Windows(embeddings, np.array(labels), np.array(folds))


def write_classifier(repository: Repository, windows: Windows, fold: int, folder: Path) -> Path:
    """A repository with a classifier that was trained on the windows of the folds but one."""
    is_trained_on = windows.folds != fold
    scaler = StandardScaler().fit(windows.embeddings[is_trained_on])
    regression = LogisticRegression(C=REGULARIZATION, max_iter=1000)
    regression.fit(scaler.transform(windows.embeddings[is_trained_on]), windows.labels[is_trained_on])
    config = repository.load_config()
    config.id2label = dict(enumerate(regression.classes_.tolist()))
    config.label2id = {label: number for number, label in config.id2label.items()}
    config.classifier_layers, config.classifier_norm = None, "batch_norm"
    config.problem_type = "single_label_classification"
    assert repository.spec.classifier is not None
    classifier = repository.spec.classifier(config)
    classifier.backbone.load_state_dict(repository.load_model().state_dict())
    with torch.no_grad():
        classifier.classifier_norm.running_mean.copy_(torch.from_numpy(scaler.mean_))
        classifier.classifier_norm.running_var.copy_(torch.from_numpy(scaler.var_))
        classifier.classifier.weight.copy_(torch.from_numpy(regression.coef_))
        classifier.classifier.bias.copy_(torch.from_numpy(regression.intercept_))
    classifier.save_pretrained(folder)
    repository.load_feature_extractor().save_pretrained(folder)
    return folder


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
    repository = find_repository(options.model)
    windows = embed_windows(clips, waveforms, options.model, options.window_s)
    print(f"{len(windows.labels)} training windows, {np.sum(windows.labels == SILENCE)} of them silence", flush=True)
    expected = {}
    for fold in clips["fold"].unique():
        folder = options.output / str(fold)
        expected[fold] = make_recordings(clips[clips["fold"] == fold], waveforms, folder / "recordings")
        write_classifier(repository, windows, fold, folder / "classifier")
    for threshold in options.thresholds:
        name = f"{options.window_s:g}-{options.hop_s:g}-{threshold:g}"
        jobs = [options.output / str(fold) / name for fold in expected]
        for job in jobs:
            tag_recordings(
                job.parent / "recordings",
                job.parent / "classifier",
                job,
                dtype="float32",
                labels=sorted(clips["label"].unique()),
                timestamps=True,
                window_s=options.window_s,
                hop_s=options.hop_s,
                threshold=threshold,
                label_tracks=True,
            )
        print(f"threshold {threshold:g}")
        found = pd.concat(pd.read_parquet(path) for job in jobs for path in job.glob("part-*"))
        report(pd.concat(expected.values()), found)
    track = label_track_path(jobs[0], "1-0.wav")
    print(f"{track}:\n{track.read_text()}")


if __name__ == "__main__":
    main()
