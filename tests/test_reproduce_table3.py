import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from tests.conftest import save_tiny

SCRIPT = Path(__file__).parents[1] / "scripts" / "reproduce_table3.py"


def test_it_runs_on_what_is_there_and_resumes(tmp_path):
    data = tmp_path / "data" / "esc50"
    data.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(12):
        soundfile.write(data / f"{index}.wav", (1 + 9 * (index % 2)) * 0.01 * generator.normal(size=16000), 16000)
    rows = [f"{index}.wav,{('soft', 'loud')[index % 2]},{index // 2 % 3}" for index in range(12)]
    (data / "metadata.csv").write_text("\n".join(["file_name,label,fold", *rows]))
    save_tiny("cnn14-fusion", tmp_path / "models" / "cnn14-fusion")
    command = [sys.executable, SCRIPT, "--models", tmp_path / "models", "--data", tmp_path / "data"]
    command += ["--output", tmp_path / "out", "--allow-other-counts"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "us8k: not in" in done.stdout
    assert "vggish-fusion: not in" in done.stdout
    table = pd.read_csv(tmp_path / "out" / "table3.csv", index_col=[0, 1])
    assert table.loc[("cnn14-fusion", "paper"), "average"].round(1) == 72.6
    here = table.loc[("cnn14-fusion", "here")]
    assert 0 <= here["ESC-50"] <= 100
    assert here.drop("ESC-50").isna().all()  # no average of what is not whole, either
    difference = table.loc[("cnn14-fusion", "difference"), "ESC-50"]
    assert np.isclose(difference, here["ESC-50"] - 93.0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "esc50").rglob("*.*")}
    subprocess.run(command, capture_output=True, text=True, check=True)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "esc50").rglob("*.*")}
