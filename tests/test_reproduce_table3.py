import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from tests.conftest import save_tiny

SCRIPT = str(Path(__file__).parents[1] / "scripts" / "reproduce_table3.py")


def test_it_runs_on_what_is_there_and_resumes(tmp_path, monkeypatch, capsys):
    data = tmp_path / "data" / "esc50"
    data.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(12):
        soundfile.write(data / f"{index}.wav", (1 + 9 * (index % 2)) * 0.01 * generator.normal(size=16000), 16000)
    rows = [f"{index}.wav,{('soft', 'loud')[index % 2]},{index // 2 % 3}" for index in range(12)]
    (data / "metadata.csv").write_text("\n".join(["file_name,label,fold", *rows]))
    save_tiny("cnn14-fusion", tmp_path / "models" / "cnn14-fusion")
    folders = [word for name in ("models", "data", "output") for word in (f"--{name}", str(tmp_path / name))]
    monkeypatch.setattr(sys, "argv", [SCRIPT, *folders, "--allow-other-counts"])
    runpy.run_path(SCRIPT, run_name="__main__")
    printed = capsys.readouterr().out
    assert "us8k: not in" in printed
    assert "vggish-fusion: not in" in printed
    table = pd.read_csv(tmp_path / "output" / "table3.csv", index_col=[0, 1])
    assert table.loc[("cnn14-fusion", "paper"), "average"].round(1) == 72.6
    here = table.loc[("cnn14-fusion", "here")]
    assert 0 <= here["ESC-50"] <= 100
    assert here.drop("ESC-50").isna().all()  # no average of what is not whole, either
    difference = table.loc[("cnn14-fusion", "difference"), "ESC-50"]
    assert np.isclose(difference, here["ESC-50"] - 93.0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "output" / "esc50").rglob("*.*")}
    runpy.run_path(SCRIPT, run_name="__main__")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "output" / "esc50").rglob("*.*")}
