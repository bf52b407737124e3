"""The models can be compiled and exported, for batches and recordings of any size."""

import warnings

import numpy as np
import pytest
import torch
from torch.export import Dim

from hf_gar.models import FusionModel
from tests.conftest import build_tiny, relative_error, tone

TOLERANCE = 1e-5
OUTPUTS = ["last_hidden_state", "pooler_output", "frame_mask"]
# Of the first batch the graph is made; the others are of other sizes, and one is a single clip without padding.
BATCHES_S = [[3.3, 2.0], [5.1, 2.0, 1.7], [1.0, 1.0], [2.5]]
ONE_FRAME_S = 0.35
MASKED = pytest.mark.parametrize("masked", [True, False], ids=["mask", "no mask"])


@pytest.fixture(params=["fused", pytest.param("unfused", marks=pytest.mark.slow)])
def model(model_type, repository, request) -> FusionModel:
    """As it is loaded, since the layout of the weights makes a difference."""
    options = {"fusion_layers": None} if request.param == "unfused" else {}
    return type(build_tiny(model_type)).from_pretrained(repository, **options)


def batches(extractor, masked: bool, more: tuple[list[float], ...] = ()) -> list[dict[str, torch.Tensor]]:
    found = []
    for clips in (*BATCHES_S, *more):
        waveforms = [tone(seconds, seed=index) for index, seconds in enumerate(clips)]
        inputs = extractor(waveforms, sampling_rate=16000, return_tensors="pt")
        names = ["input_features", "attention_mask"] if masked else ["input_features"]
        found.append({name: inputs[name] for name in names})
    return found


def dynamic_shapes(model: FusionModel, inputs: dict[str, torch.Tensor]) -> dict[str, dict]:
    dimensions = {0: Dim("batch")}
    if model.config.model_type != "ast-fusion":  # which takes one length
        # Two frame embeddings of CNN14 and of a backbone, where a frame alone would be a case of its own.
        at_least = {"backbone-fusion": 2040}.get(model.config.model_type, 64)
        dimensions[1] = Dim("time", min=max(at_least, model.minimum_length))
    return dict.fromkeys(inputs, dimensions)


def check(run, model: FusionModel, inputs: list[dict[str, torch.Tensor]]) -> None:
    with torch.no_grad():
        for batch in inputs:
            found, expected = run(**batch), model(**batch)
            assert list(found.keys()) == list(expected.keys()) == OUTPUTS
            assert relative_error(found["last_hidden_state"], expected.last_hidden_state) < TOLERANCE
            assert relative_error(found["pooler_output"], expected.pooler_output) < TOLERANCE
            assert np.array_equal(found["frame_mask"], expected.frame_mask)


def call_once(model: FusionModel, extractor) -> None:
    """transformers 5 installs what catches hidden states in the first call, under a lock that is not compiled."""
    model(**extractor(tone(1), sampling_rate=16000, return_tensors="pt"))


@MASKED
def test_export(model, extractor, masked):
    inputs = batches(extractor, masked)
    program = torch.export.export(model, (), kwargs=inputs[0], dynamic_shapes=dynamic_shapes(model, inputs[0]))
    check(program.module(), model, inputs)


def test_compile_without_breaks(model, extractor):
    """Up to the graph, which is what can fail here: compiling it takes a minute."""
    torch.compiler.reset()
    call_once(model, extractor)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    check(compiled, model, batches(extractor, masked=True)[:2])


@pytest.mark.slow
@MASKED
def test_compile(model, extractor, masked):
    torch.compiler.reset()
    call_once(model, extractor)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    check(compiled, model, batches(extractor, masked, ([ONE_FRAME_S],)))


@pytest.mark.slow
@MASKED
def test_onnx(model, extractor, masked, tmp_path):
    import onnxruntime

    inputs = batches(extractor, masked, ([ONE_FRAME_S],))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (),
            tmp_path / "model.onnx",
            kwargs=inputs[0],
            dynamic_shapes=dynamic_shapes(model, inputs[0]),
            output_names=OUTPUTS,
            dynamo=True,
        )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [output.name for output in session.get_outputs()] == OUTPUTS

    def run(**batch):
        arrays = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        return dict(zip(OUTPUTS, arrays, strict=True))

    check(run, model, inputs)


@pytest.mark.slow
def test_what_transformers_exports_is_named(model, extractor):
    pytest.importorskip("transformers.exporters")
    from transformers.exporters import OnnxConfig, OnnxExporter

    inputs = batches(extractor, masked=True)[0]
    exported = OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True))
    assert [output.name for output in exported.program.graph.outputs] == OUTPUTS


def test_a_short_clip_is_nan_once_traced(model, extractor):
    """Lengths are not checked there; the embedding must not look like one."""
    if model.config.model_type == "ast-fusion":
        pytest.skip("takes clips of any length")
    inputs = batches(extractor, masked=True)[0]
    program = torch.export.export(model, (), kwargs=inputs, dynamic_shapes=dynamic_shapes(model, inputs))
    short = {name: tensor.clone() for name, tensor in inputs.items()}
    short["attention_mask"][1, 20:] = 0
    found = program.module()(**short).pooler_output
    assert found[0].isfinite().all()
    assert found[1].isnan().all()
