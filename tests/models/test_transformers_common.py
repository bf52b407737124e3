"""transformers' own common tests over the models, over their classifiers, and over the feature extractors.

Run with `pytest -m slow tests/models/test_transformers_common.py`; it takes pip and the package index. The wheel of
transformers has no tests, but its source distribution has those that its models share. What does not apply to a model
skips itself. What is expected to fail is listed here: nothing else may fail, and none of it may pass.

In a process of its own, this file runs them: `python -m tests.models.test_transformers_common CASE MODEL_TYPE FOLDER`.
"""

import importlib
import json
import math
import os
import subprocess
import sys
import tarfile
import unittest
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
import transformers

from hf_gar import register
from hf_gar.models import modeling_fusion
from hf_gar.registry import MODELS
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]
PACKAGE = "transformers_tests"  # transformers calls it `tests`, as we do ours
# Base classes that the source distribution lacks: of tests of transformers' exporters, and of generated text.
MISSING = {"exporters/test_export.py": "ExportTesterMixin", "generation/test_utils.py": "GenerationTesterMixin"}
RESULTS = "results.json"


class Failure(NamedTuple):
    cases: tuple[str, ...]
    model_types: tuple[str, ...]
    test: str
    error: str  # the beginning of the traceback's last line
    reason: str


AST, BACKBONE, CNN14, VGGISH = sorted(TINY)
EVERY, CONVOLUTIONAL = (AST, BACKBONE, CNN14, VGGISH), (CNN14, VGGISH)
MODEL, HEAD, EXTRACTOR, BOTH = ("model",), ("head",), ("extractor",), ("model", "head")
NO_WEIGHTS = "test_model_weights_reload_no_missing_tied_weights", "ValueError: The weights are not those of a "
NO_TOKENS = "it asks for an nn.Embedding of token ids; a spectrogram has none"
SDPA_TEST = "test_eager_matches_sdpa_inference_24_fp32_pad_left_output_attentions"
NO_ATTENTIONS = (
    "ValueError: output_attentions=True, but attn_implementation='sdpa' does not compute them",
    "where attentions are asked for and not computed, they are an error, not None",
)
TWO_BOOLS = "NotImplementedError: Subtraction, the `-` operator, with two bool tensors"
TOO_LONG = (
    "hf_gar.models.audio_loading.AudioError: Clip 1 of the batch has 500 ",
    "without truncation=True, a clip longer than max_length is an error, not left longer",
)
LENGTH_KNOWN = "AssertionError: ValueError not raised", 'padding="max_length" pads to the length that AST takes'
# fmt: off
EXPECTED_FAILURES = [
    Failure(BOTH, EVERY, *NO_WEIGHTS, "a model without weights is an error, not one with random weights"),
    Failure(BOTH, CONVOLUTIONAL, "test_load_contiguous_weights", "AssertionError: False is not true",
            "convolutions are loaded channels-last, which is faster"),
    Failure(BOTH, CONVOLUTIONAL, "test_model_get_set_embeddings", "NotImplementedError: `get_input_emb", NO_TOKENS),
    Failure(BOTH, (AST,), "test_model_get_set_embeddings", "AssertionError: Conv2d(1, 24, ", NO_TOKENS),
    Failure(BOTH, (AST, BACKBONE), SDPA_TEST, *NO_ATTENTIONS),
    Failure(HEAD, (AST, BACKBONE), "test_model_outputs_equivalence", *NO_ATTENTIONS),
    Failure(BOTH, (BACKBONE,), "test_capture_outputs_decorator", *NO_ATTENTIONS),
    Failure(MODEL, EVERY, "test_model_outputs_equivalence", TWO_BOOLS,
            "it subtracts all outputs; frame_mask is boolean, see test_positions_of_the_outputs"),
    Failure(HEAD, (AST,), "test_retain_grad_hidden_states_attentions", "AssertionError: unexpectedly None",
            "a clip's embedding is made of the class and distillation tokens, hidden_states of the others"),
    Failure(BOTH, (BACKBONE,), "test_model_get_set_embeddings", "NotImplementedError: `get_input_emb", NO_TOKENS),
    Failure(BOTH, (BACKBONE,), "test_can_init_all_missing_weights", "{'`",
            "transformers leaves it out for networks from before 2023, as Wav2Vec2"),
    Failure(BOTH, (BACKBONE,), "test_internal_model_config_and_subconfig_are_same", "AssertionError: False is not true",
            "the network is built by a copy of its configuration, up to the depth that is held"),
    Failure(EXTRACTOR, EVERY, "test_truncation_from_list", *TOO_LONG),
    Failure(EXTRACTOR, EVERY, "test_truncation_from_array", *TOO_LONG),
    Failure(EXTRACTOR, (AST,), "test_padding_from_list", *LENGTH_KNOWN),
    Failure(EXTRACTOR, (AST,), "test_padding_from_array", *LENGTH_KNOWN),
]
# fmt: on


@pytest.fixture(scope="module")
def common_tests(request, tmp_path_factory) -> Path:
    """A folder with transformers' tests, of the version that is installed, as the package `PACKAGE`."""
    if transformers.__version__.startswith("4."):
        pytest.skip("what is expected to fail is listed for transformers 5")
    pytest.importorskip("parameterized", reason="transformers' tests need parameterized (pip install parameterized)")
    cache = request.config.cache.mkdir("transformers")
    name = f"transformers-{transformers.__version__}"
    archive = cache / f"{name}.tar.gz"
    if not archive.exists():
        options = ["--quiet", "--no-deps", "--no-binary=:all:", f"--dest={cache}", name.replace("-", "==")]
        command = [sys.executable, "-m", "pip", "download", *options]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
        if fetched.returncode:
            pytest.skip(f"pip cannot fetch the source distribution of {name}: {fetched.stderr.strip()[-500:]}")
    folder = tmp_path_factory.mktemp("common")
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            if member.isfile() and member.name.startswith(f"{name}/tests/"):
                member.name = member.name.replace(f"{name}/tests", PACKAGE, 1)
                files.extract(member, folder, filter="data")
    for file, mixin in MISSING.items():
        (folder / PACKAGE / file).parent.mkdir()
        (folder / PACKAGE / file).write_text(f"class {mixin}:\n    pass\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", ["model", "head", "extractor"])
def test_what_transformers_tests_of_its_own_models(common_tests, model_type, case):
    command = [sys.executable, "-m", "tests.models.test_transformers_common", case, model_type, str(common_tests)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_TEST_DEVICE": "cpu"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    results = json.loads((common_tests / RESULTS).read_text())
    passed, skipped, failed = (results[outcome] for outcome in ("passed", "skipped", "failed"))
    print(f"{case} of {model_type}: {len(passed)} passed, {len(skipped)} do not apply, {len(failed)} failed")
    expected = {each.test: each for each in EXPECTED_FAILURES if case in each.cases and model_type in each.model_types}
    for name, trace in failed.items():
        assert name in expected, f"{name} fails:\n{trace}"
        assert trace.strip().splitlines()[-1].startswith(expected[name].error), f"{name} fails differently:\n{trace}"
    assert failed.keys() == expected.keys(), f"expected to fail: {expected.keys() - failed.keys()}"
    assert passed


class ModelTester:
    """What the common tests of models want to know, and call by these names."""

    batch_size = 3
    is_training = True
    num_hidden_layers = 2  # of those with attentions; others are asked for it, too

    def __init__(self, model_type: str):
        self.spec, self.sizes = MODELS[model_type], TINY[model_type][0]
        if model_type == AST:
            self.sizes = self.sizes | {"num_hidden_layers": 2, "fusion_layers": [0, 1], "depth": 1, "max_length": 200}
        elif model_type == BACKBONE:
            network = {**self.sizes["backbone_config"], "num_hidden_layers": 2}
            self.sizes = self.sizes | {"backbone_config": network, "fusion_layers": [1, 2], "depth": 2}
        config = self.get_config()
        model = self.spec.model(config)
        self.seq_length = 4000 if model_type == BACKBONE else 200  # samples, or mel frames
        self.encoder_seq_length = int(model.frame_counts(torch.tensor(self.seq_length)))
        self.expected_num_hidden_layers = len(config.fused_layers)
        self.hidden_size = config.layer_sizes[config.fused_layers[0]]
        self.has_attentions = model.has_attentions
        if model_type == AST:
            self.num_attention_heads = config.num_attention_heads
            self.num_tokens = 2 + math.prod(config.patch_grid)
        elif model_type == BACKBONE:
            self.num_attention_heads = config.backbone_config.num_attention_heads
            self.num_tokens = self.encoder_seq_length

    def get_config(self):
        return self.spec.config(**self.sizes)

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_features = torch.randn(self.batch_size, self.seq_length, config.feature_size)
        mask = torch.ones(self.batch_size, self.seq_length, dtype=torch.long)
        mask[0, self.seq_length * 3 // 4 :] = 0
        return config, {"input_features": input_features, "attention_mask": mask}


def model_case(model_type: str, with_head: bool) -> type[unittest.TestCase]:
    common = importlib.import_module(f"{PACKAGE}.test_modeling_common")
    spec = MODELS[model_type]
    register()
    # By these, the common tests know a base model and a head for classification.
    common.MODEL_MAPPING_NAMES[model_type] = spec.model.__name__
    common.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[model_type] = spec.classifier.__name__

    class Case(common.ModelTesterMixin, unittest.TestCase):
        all_model_classes = (spec.classifier if with_head else spec.model,)
        has_attentions = ModelTester(model_type).has_attentions
        test_resize_embeddings = False  # of text
        test_can_init_all_missing_weights_before_2023 = True  # runs the test

        def setUp(self):
            self.model_tester = ModelTester(model_type)

        def test_attention_outputs(self):
            if self.has_attentions:
                self.model_tester.encoder_seq_length = self.model_tester.key_length = self.model_tester.num_tokens
            super().test_attention_outputs()

        def test_can_init_all_missing_weights(self):
            with mock.patch.object(modeling_fusion, "require_weights_of"):  # which refuses a model without weights
                super().test_can_init_all_missing_weights()

    return Case


class ExtractorTester:
    """What the common tests of feature extractors want to know, and call by these names; lengths in mel frames."""

    batch_size, min_seq_length, max_seq_length, seq_length_diff = 7, 400, 1000, 100

    def __init__(self, model_type: str):
        self.arguments = TINY[model_type][1]
        self.feature_size = MODELS[model_type].feature_extractor(**self.arguments).feature_size

    def prepare_feat_extract_dict(self) -> dict:
        return dict(self.arguments)

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list:
        shortest = self.max_seq_length if equal_length else self.min_seq_length
        lengths = np.linspace(shortest, self.max_seq_length, self.batch_size, dtype=int)
        random = np.random.default_rng(0)
        clips = [random.normal(size=(length, self.feature_size)) for length in lengths]
        return clips if numpify else [clip.tolist() for clip in clips]


def extractor_case(model_type: str) -> type[unittest.TestCase]:
    common = importlib.import_module(f"{PACKAGE}.test_sequence_feature_extraction_common")

    class Case(common.SequenceFeatureExtractionTestMixin, unittest.TestCase):
        feature_extraction_class = MODELS[model_type].feature_extractor

        def setUp(self):
            self.feat_extract_tester = ExtractorTester(model_type)

    return Case


CASES: dict[str, Callable[[str], type[unittest.TestCase]]] = {
    "model": partial(model_case, with_head=False),
    "head": partial(model_case, with_head=True),
    "extractor": extractor_case,
}


def run_case(case: str, model_type: str, folder: str) -> None:
    """Run the common tests in `folder`, and write there which passed, which were skipped and why, and which failed."""
    sys.path.insert(0, folder)
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(CASES[case](model_type))
    names = [test._testMethodName for test in tests]
    result = unittest.TestResult()
    tests.run(result)

    def by_name(outcomes) -> dict[str, str]:
        return {getattr(test, "test_case", test)._testMethodName: text for test, text in outcomes}

    failed, skipped = by_name(result.failures + result.errors), by_name(result.skipped)
    passed = [name for name in names if name not in failed | skipped]
    Path(folder, RESULTS).write_text(json.dumps({"failed": failed, "skipped": skipped, "passed": passed}))


if __name__ == "__main__":
    run_case(*sys.argv[1:])
