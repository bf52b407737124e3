"""The README's commands and code, run as they stand there."""

import re
import shlex
from pathlib import Path

import soundfile

from hf_gar.cli import main
from tests.conftest import save_tiny, tone

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_commands_and_code_run(recordings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny("cnn14-fusion", Path("cnn14-fusion"))
    soundfile.write("recording.wav", tone(3), 16000)
    namespace: dict = {}
    ran = []
    for language, block in re.findall(r"```(console|python)\n(.*?)```", README.read_text(), re.DOTALL):
        if language == "console":
            for command in re.findall(r"^\$ hf-gar ((?:embed|map) .*)$", block, re.MULTILINE):
                assert main(shlex.split(command)) == 0
                ran.append(command)
        else:
            exec(block, namespace)
            ran.append(block)
    assert len(ran) >= 4
    assert Path("embeddings/map.html").exists()
    assert len(namespace["embedding"]) == len(namespace["frames"][0])
    assert namespace["embeddings"].shape == (6, len(namespace["embedding"]))
