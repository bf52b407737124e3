"""The README's commands and code, run as they stand there."""

import re
import shlex
from pathlib import Path

import numpy as np
import soundfile

from hf_gar.cli import main
from hf_gar.hub.load import find_repository
from tests.conftest import save_publishable, save_tiny, save_tiny_classifier, tone

README = Path(__file__).parents[1] / "README.md"
# Those that take the network or a cluster, or run until they are stopped; tests/hub, tests/search/test_app.py and
# tests/embedding/test_interruptions.py run them.
ELSEWHERE = ("hf-gar export", "hf-gar push", "--engine ray", "hf-gar app")


def write_recordings(folder: Path) -> None:
    """24 recordings of two classes in three folds, with their metadata."""
    folder.mkdir()
    rows = ["file_name,label,fold"]
    for index in range(24):
        label = ("tone", "noise")[index % 2]
        noise = 0.1 * np.random.default_rng(index).normal(size=16000)
        soundfile.write(folder / f"{index}.wav", noise if label == "noise" else 0.5 * tone(1, seed=index), 16000)
        rows.append(f"{index}.wav,{label},{index // 2 % 3}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def test_the_readmes_commands_and_code_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_publishable("cnn14-fusion", Path("cnn14-fusion"), save_tiny_classifier)
    save_tiny("ast-fusion", Path("ast-fusion"))
    write_recordings(Path("recordings"))
    soundfile.write("recording.wav", tone(3), 16000)
    namespace: dict = {}
    commands = []
    for language, block in re.findall(r"```(console|python)\n(.*?)```", README.read_text(), re.DOTALL):
        if language == "python":
            exec(block, namespace)
            continue
        for command in re.findall(r"^\$ (hf-gar .*)$", block, re.MULTILINE):
            if not any(name in command for name in ELSEWHERE):
                assert main(shlex.split(command)[1:]) == 0, command
                commands.append(command.split()[1])
    assert set(commands) == {
        "embed",
        "tag",
        "map",
        "evaluate",
        "probe",
        "train",
        "status",
        "index",
        "search",
        "duplicates",
        "cluster",
    }
    for made in (
        "embeddings/map.html",
        "events/label_tracks/0.wav.txt",
        "evaluation/confusion.png",
        "layers/layers.png",
    ):
        assert Path(made).exists()
    assert len(namespace["embedding"]) == len(namespace["frames"][0])
    assert namespace["labels"] == namespace["everything"]  # of four
    assert [window["timestamp"] for window in namespace["windows"]] == [(0, 2), (1, 3)]
    assert namespace["model"].config.id2label == {0: "dog", 1: "rain"}
    for made in ("my-classifier", "my-network"):
        assert find_repository(made).load_classifier().config.id2label == {0: "noise", 1: "tone"}
    assert type(namespace["adapted"]).__name__ == "PeftModel"
    assert Path("ast-adapted/model.safetensors").exists()
    assert Path("keep.txt").read_text().splitlines()
    assert namespace["found"].num_rows == 5
    assert set(namespace["alike"]["label"]) == {"tone"}
    assert namespace["embeddings"].shape == (24, len(namespace["embedding"]))
