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
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline


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
    untold = pipeline(model=repository, device="cpu", **options)  # the task follows from the repository
    assert type(untold).__name__ == type(embed).__name__ == "AudioEmbeddingPipeline"
    assert not any(name.split(".")[0] == "hf_gar" for name in sys.modules)
    np.savez(output, **{name: array.numpy() for name, array in arrays.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
