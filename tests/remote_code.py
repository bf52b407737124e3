"""Run in a process of its own: load a model repository as a user without hf_gar does, and write what it gives.

python remote_code.py REPOSITORY RECORDING OUTPUT.npz '{"revision": ...}'
"""

import json
import sys
from importlib.abc import MetaPathFinder


class NoHfGar(MetaPathFinder):
    """Makes `import hf_gar` fail, as where it is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_gar":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoHfGar())

import numpy as np
import soundfile
import torch
from transformers import (
    AudioClassificationPipeline,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    pipeline,
)


def classify(repository: str, recording: str, inputs: dict, options: dict) -> dict[str, torch.Tensor]:
    """The logits of a recording by the model, by the repository's pipeline and by transformers'."""
    model = AutoModelForAudioClassification.from_pretrained(repository, **options)
    half = AutoModelForAudioClassification.from_pretrained(repository, dtype=torch.bfloat16, **options)
    logits = {"logits": model(**inputs).logits[0], "bfloat16_logits": half(**inputs).logits[0].float()}
    options = {**options, "device": "cpu", "top_k": None}
    ours = pipeline("audio-classification", model=repository, function_to_apply="none", **options)
    assert type(ours).__name__ == "FusionAudioClassificationPipeline"
    windows = ours(recording, timestamps=True)
    assert [window["timestamp"] for window in windows] == [(0.0, 2.0)]
    theirs = pipeline("audio-classification", model=repository, pipeline_class=AudioClassificationPipeline, **options)
    for name, labels in {
        "pipeline_logits": ours(recording),
        "window_logits": windows[0]["labels"],
        "built_in_scores": theirs(soundfile.read(recording, dtype="float32")[0]),
    }.items():
        scores = {each["label"]: each["score"] for each in labels}
        logits[name] = torch.tensor([scores[label] for _, label in sorted(model.config.id2label.items())])
    return logits


def main(repository: str, recording: str, output: str, options: str = "{}") -> None:
    options = {"trust_remote_code": True, **json.loads(options)}
    config = AutoConfig.from_pretrained(repository, **options)
    extractor = AutoFeatureExtractor.from_pretrained(repository, **options)
    waveform, rate = soundfile.read(recording, dtype="float32")
    inputs = extractor(waveform, sampling_rate=rate, return_tensors="pt")
    model = AutoModel.from_pretrained(repository, **options)
    arrays = {}
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
        arrays["input_features"] = inputs["input_features"]
        arrays["clip"] = outputs.pooler_output
        arrays["frames"] = outputs.last_hidden_state
        for layer, hidden_state in zip(config.fused_layers, outputs.hidden_states, strict=True):
            arrays[f"layer{layer}"] = hidden_state
        half = AutoModel.from_pretrained(repository, dtype=torch.bfloat16, **options)
        assert half.dtype == torch.bfloat16
        arrays["bfloat16"] = half(**inputs).pooler_output.float()
        layers = list(config.valid_layers[1:3])
        if layers[-1] <= config.depth:
            other = AutoModel.from_pretrained(repository, fusion_layers=layers, **options)
            assert other.config.fusion_layers == layers
            arrays["other_layers"] = other(**inputs).pooler_output
    embed = pipeline("feature-extraction", model=repository, device="cpu", **options)
    arrays["pipeline"] = torch.tensor([embed(recording)])
    arrays["pipeline_frames"] = torch.tensor([embed(recording, pool=False)])
    assert type(embed).__name__ == "AudioEmbeddingPipeline"
    if "audio-classification" in config.custom_pipelines:
        with torch.no_grad():
            arrays |= classify(repository, recording, inputs, options)
    else:
        untold = pipeline(model=repository, device="cpu", **options)  # the task follows from the repository
        assert type(untold).__name__ == "AudioEmbeddingPipeline"
    assert not any(name.split(".")[0] == "hf_gar" for name in sys.modules)
    np.savez(output, **{name: array.numpy() for name, array in arrays.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
