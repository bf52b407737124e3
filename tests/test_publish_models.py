"""scripts/publish_models.py, against a Hub on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_gar.tiny import FOLDER, TINY
from tests.hub.local_hub import LocalHub

SCRIPT = Path(__file__).parents[1] / "scripts" / "publish_models.py"


@pytest.mark.slow
def test_the_small_network_and_its_space(tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        options = ["--organization", "acme", "--output", tmp_path / "repositories", "--models", TINY, "--space"]
        for _ in range(2):  # the second time, everything is there already
            done = subprocess.run(
                [sys.executable, SCRIPT, *options],
                env={**os.environ, **hub.environment()},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-3000:]
        model = hub.files(f"acme/{TINY}")
        assert model["model.safetensors"] == (FOLDER / "model.safetensors").read_bytes()
        assert "modeling_cnn14_fusion.py" in model
        assert f'model="acme/{TINY}"' in model["README.md"].decode()
        recordings = hub.files(f"acme/{TINY}-recordings", repo_type="dataset")
        assert sum(name.endswith(".ogg") for name in recordings) == 24
        assert f"acme/{TINY}-embeddings" in hub.files(f"acme/{TINY}-app", repo_type="space")["app.py"].decode()
