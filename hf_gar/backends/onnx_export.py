"""Export a model to ONNX, for batches and recordings of any size.

PyTorch's own exporter (`torch.onnx.export` with `dynamo=True`) makes the graph: transformers' exporters wrap it, need
transformers 5, and add nothing for these models; optimum's need transformers 4 and a configuration for each model.
OpenVINO takes the same graph, so that there is one way from the model to both runtimes.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim

from hf_gar.backends.exported_network import FEATURES, MASK, OUTPUTS
from hf_gar.errors import HfGarError
from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.quiet import quiet_exporters

# A graph with more weights, in bytes, has to keep them in files beside it.
LARGEST_GRAPH = 2**31 - 2**24


def export_onnx(model: FusionModel, extractor: FusionFeatureExtractor, path: Path) -> None:
    """Write a model as an ONNX graph whose inputs and outputs are those of its `forward`, in float32.

    Args:
        model: In float32, in evaluation mode.
        extractor: Its feature extractor.
        path: The file to write.

    Raises:
        HfGarError: The model cannot be exported.
    """
    size = sum(weight.numel() * weight.element_size() for weight in model.state_dict().values())
    if size > LARGEST_GRAPH:
        raise HfGarError(f"The model has {size / 2**30:.1f} GiB of weights, more than a file of ONNX can hold (2 GiB).")
    inputs = _example(extractor)
    dimensions = {0: Dim("batch"), 1: Dim("time", min=_shortest(extractor))}
    if getattr(model.config, "input_length", None) is not None:  # a network that takes inputs of one length only
        del dimensions[1]
    if not model.config.is_padding_safe:  # which takes clips of one length at a time
        del inputs[MASK]
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), quiet_exporters(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model,
                (),
                path,
                kwargs=inputs,
                dynamic_shapes=dict.fromkeys(inputs, dimensions),
                output_names=OUTPUTS,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise HfGarError(f"PyTorch cannot export this model to ONNX: {error}") from error


def _example(extractor: FusionFeatureExtractor) -> dict[str, torch.Tensor]:
    """Inputs of two clips, one of them padded where inputs are."""
    samples = _samples_of_two_frames(extractor)
    random = np.random.default_rng(0)
    clips = [0.1 * random.standard_normal(length * samples).astype(np.float32) for length in (3, 2)]
    inputs = extractor(clips, sampling_rate=extractor.sampling_rate, truncation=extractor.max_length is not None)
    features, masks = (np.stack(inputs[name]) for name in (FEATURES, MASK))
    return {FEATURES: torch.from_numpy(features), MASK: torch.from_numpy(masks).long()}


def _samples_of_two_frames(extractor: FusionFeatureExtractor) -> int:
    """A short waveform with two frame embeddings: a size of 1 would be a case of its own in the graph."""
    samples = extractor.minimum_samples
    while extractor.num_frames(samples) < 2:
        samples += extractor.hop_length
    return samples


def _shortest(extractor: FusionFeatureExtractor) -> int:
    """Its length as an input, in time steps."""
    (spectrogram,) = extractor.spectrograms([np.zeros(_samples_of_two_frames(extractor), np.float32)])
    return len(spectrogram)
