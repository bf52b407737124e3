"""hf_gar.register(), in a process of its own: it changes transformers for the whole process."""

import subprocess
import sys

from tests.conftest import TINY, save_tiny

CODE = """
import sys

import hf_gar
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

assert "ast-fusion" not in CONFIG_MAPPING  # importing registers nothing
hf_gar.register()
hf_gar.register()  # twice does no harm
for repository in sys.argv[1:]:
    config = AutoConfig.from_pretrained(repository)
    model = AutoModel.from_pretrained(repository)
    classifier = AutoModelForAudioClassification.from_pretrained(repository)
    extractor = AutoFeatureExtractor.from_pretrained(repository)
    assert type(model).__module__.startswith("hf_gar."), type(model)
    assert type(classifier).__module__.startswith("hf_gar."), type(classifier)
    assert type(extractor).__module__.startswith("hf_gar."), type(extractor)
    assert type(AutoModel.from_config(config)) is type(model)
"""


def test_registered_models_need_no_remote_code(tmp_path):
    repositories = [str(save_tiny(model_type, tmp_path / model_type)) for model_type in TINY]
    done = subprocess.run([sys.executable, "-c", CODE, *repositories], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
