"""Check the models on a GPU that CUDA runs on, and measure them: every figure is of this machine and this run.

    python scripts/check_cuda.py [--output RESULTS.json] [--quick]

It takes untrained networks of the published sizes and synthetic clips, and needs nothing but PyTorch and transformers.
The checks compare the GPU with the processor, in float32 and bfloat16; a clip alone with the same clip in a batch; a
long recording in chunks; and let CUDA raise an error wherever the host waits for all that the GPU was given.
The exit code is 1 where one of them fails.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from hf_gar.embedding.decoding import LoadedChunk
from hf_gar.embedding.length_buckets import LengthBuckets
from hf_gar.models import FusionFeatureExtractor, FusionModel
from hf_gar.models.chunks import split_chunks
from hf_gar.models.modeling_fusion import set_channels_last
from hf_gar.registry import MODELS

RATE = 16000  # Hz
GPU = torch.device("cuda")
# A Wav2Vec2 of the base size that is safe under padding.
WAV2VEC2 = {"model_type": "wav2vec2", "feat_extract_norm": "layer", "do_stable_layer_norm": True}
CONFIGS: dict[str, dict[str, Any]] = {
    "vggish-fusion": {},
    "cnn14-fusion": {},
    "ast-fusion": {"max_length": 498},
    "backbone-fusion": {"backbone_config": WAV2VEC2, "fusion_layers": [5, 12]},
}
CLIPS_S = (5.0, 4.6, 4.99, 1.3)
LONG_S = 70.0
# What float32 and bfloat16 have to keep: the largest difference, relative to the largest value; the worst cosine, of
# clips and of frames, of which a quiet one is little more than its rounding.
FLOAT32_ERROR, COSINES = 1e-4, {"clips": 0.999, "frames": 0.99}
SECONDS = 5.0
BATCHES = (64, 192)
REPETITIONS = 7

results: dict[str, Any] = {"failed": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="a file for the results, as JSON")
    parser.add_argument("--quick", action="store_true", help="the checks alone, without measuring")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("There is no GPU here that CUDA runs on.")
    results["device"] = torch.cuda.get_device_name()
    results["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(results["device"], results["versions"], flush=True)
    for model_type in CONFIGS:
        model, extractor = build(model_type)
        results[model_type] = {}
        for step in (check_precision, check_alone, check_long, check_waiting):
            step(model_type, model, extractor)
        if not options.quick:
            measure(model_type, model, extractor)
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"failed: {', '.join(results['failed']) or 'nothing'}")
    sys.exit(1 if results["failed"] else 0)


def build(model_type: str) -> tuple[FusionModel, FusionFeatureExtractor]:
    """An untrained network, the statistics of its normalisations random but fixed, and its feature extractor."""
    spec = MODELS[model_type]
    torch.manual_seed(0)
    model = spec.model(spec.config(**CONFIGS[model_type]))
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    set_channels_last(model)
    window = {"frame_window": 400, "frame_hop": 320} if model_type == "backbone-fusion" else {}
    extractor = spec.feature_extractor(**window)
    extractor.match(model.config)
    return model.eval(), extractor


def clip(seconds: float, seed: int) -> np.ndarray:
    """Noise and a gliding tone, (samples,), louder and softer."""
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (200 + 300 * seed + 150 * times) * times)
    swell = 0.05 + np.square(np.sin(np.pi * times / 1.7))
    return (swell * (0.3 * tone + 0.05 * random.standard_normal(len(times)))).astype(np.float32)


def inputs_on(device: torch.device, extractor: FusionFeatureExtractor, clips: list[np.ndarray]) -> dict[str, Any]:
    return dict(extractor(clips, sampling_rate=RATE, return_tensors="pt").to(device))


def outputs_of(model: FusionModel, inputs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The clip embeddings (clip, D), and those of their own frames, one after the other, (frame, D)."""
    with torch.inference_mode():
        outputs = model(**inputs)
    frames = outputs.last_hidden_state.float()[outputs.frame_mask]
    return outputs.pooler_output.float().cpu().numpy(), frames.cpu().numpy()


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """The worst of the rows."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(1) / np.maximum(norms, 1e-12)).min())


def report(model_type: str, what: str, value: float, passed: bool | None = None) -> None:
    verdict = "" if passed is None else ("  ok" if passed else "  FAILED")
    print(f"{model_type:16} {what:52} {value:12.6g}{verdict}", flush=True)
    results[model_type][what] = value
    if passed is False:
        results["failed"].append(f"{model_type}: {what}")


def set_exact(exact: bool) -> None:
    """Whether float32 is computed as such, or, in convolutions, as TensorFloat-32, which is PyTorch's default."""
    torch.backends.cudnn.allow_tf32 = not exact


def check_precision(model_type: str, model: FusionModel, extractor: FusionFeatureExtractor) -> None:
    """The GPU against the processor, for a batch with padding."""
    clips = [clip(seconds, seed) for seed, seconds in enumerate(CLIPS_S)]
    expected = outputs_of(model.float().cpu(), inputs_on(torch.device("cpu"), extractor, clips))
    inputs = inputs_on(GPU, extractor, clips)
    for exact in (True, False):
        set_exact(exact)
        found = outputs_of(model.to(GPU), inputs)
        for name, one, other in zip(("clips", "frames"), found, expected, strict=True):
            kind = "float32" if exact else "TensorFloat-32"
            value = error(one, other)
            report(model_type, f"{kind} against the processor, {name}", value, value < FLOAT32_ERROR if exact else None)
    found = outputs_of(model.to(GPU, torch.bfloat16), inputs)
    for name, one, other in zip(("clips", "frames"), found, expected, strict=True):
        value = cosine(one, other)
        report(model_type, f"bfloat16 against the processor, {name}, worst cosine", value, value > COSINES[name])
    model.float()


def check_alone(model_type: str, model: FusionModel, extractor: FusionFeatureExtractor) -> None:
    """A clip alone against the same clip in a batch."""
    set_exact(True)
    clips = [clip(seconds, seed) for seed, seconds in enumerate(CLIPS_S)]
    for dtype in (torch.float32, torch.bfloat16):
        model.to(GPU, dtype)
        together, _ = outputs_of(model, inputs_on(GPU, extractor, clips))
        alone = np.concatenate([outputs_of(model, inputs_on(GPU, extractor, [one]))[0] for one in clips])
        if dtype == torch.float32:
            value = error(alone, together)
            report(model_type, "float32, alone against in a batch", value, value < FLOAT32_ERROR)
        else:
            value = cosine(alone, together)
            report(model_type, "bfloat16, alone against in a batch, worst cosine", value, value > COSINES["clips"])


def embed(
    model: FusionModel, extractor: FusionFeatureExtractor, clips: list[np.ndarray], batch_size: int | None = None
) -> np.ndarray:
    """The embeddings (clip, D) of clips in chunks, passed through the model as a job does."""
    buckets = LengthBuckets(model, extractor, batch_size)
    embeddings = {each.recording: each.embedding for each in buckets.embed(chunks_of(clips, buckets))}
    return np.stack([embeddings[index] for index in range(len(clips))])


def chunks_of(clips: list[np.ndarray], buckets: LengthBuckets) -> Iterator[LoadedChunk]:
    extractor = buckets.feature_extractor
    for index, waveform in enumerate(clips):
        for number, chunk in enumerate(split_chunks(iter([waveform]), extractor)):
            signal = chunk.waveform if buckets.takes_waveforms else extractor.spectrograms([chunk.waveform])[0]
            bounds = (chunk.first, chunk.stop, chunk.num_samples, chunk.is_last)
            yield LoadedChunk(index, 0, number, signal, *bounds, name=str(index))


def check_long(model_type: str, model: FusionModel, extractor: FusionFeatureExtractor) -> None:
    """A long recording in chunks beside short ones, front end and all, against the processor."""
    set_exact(True)
    clips = [clip(LONG_S, 1), *(clip(seconds, seed) for seed, seconds in enumerate(CLIPS_S))]
    expected = embed(model.float().cpu(), extractor, clips)
    found = embed(model.to(GPU), extractor, clips)
    report(model_type, "float32, a long recording among others", error(found, expected), error(found, expected) < 1e-3)
    found = embed(model.to(GPU, torch.bfloat16), extractor, clips)
    value = cosine(found, expected)
    report(model_type, "bfloat16, a long recording among others, cosine", value, value > COSINES["clips"])


def check_waiting(model_type: str, model: FusionModel, extractor: FusionFeatureExtractor) -> None:
    """Nobody waits for the GPU, but for a job that takes a batch's results when the next one was launched."""
    model.to(GPU, torch.bfloat16)
    ragged = [clip(seconds, seed) for seed, seconds in enumerate(CLIPS_S)]
    alike = [clip(SECONDS, seed) for seed in range(4)]
    for name, clips in (("of one length", alike), ("of several lengths", ragged)):
        inputs = inputs_on(GPU, extractor, clips)
        steps: dict[str, Callable[[], Any]] = {
            f"a batch {name} waits for the GPU": partial(model.forward, **inputs),
            f"a job's batches {name} wait for the GPU": partial(embed, model, extractor, clips, batch_size=2),
        }
        for what, run in steps.items():
            with torch.inference_mode():
                run()  # what is made once may wait
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
                try:
                    run()
                    waits = 0.0
                except RuntimeError as waiting:
                    waits = 1.0
                    print(waiting)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            # transformers' own networks look at their masks.
            report(model_type, what, waits, None if model_type == "backbone-fusion" else waits == 0)


def speed(run: Callable[[], Any], clips: int) -> float:
    """Clips a second, the median of several runs."""
    run()
    seconds = []
    for _ in range(REPETITIONS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return clips / float(np.median(seconds))


def measure(model_type: str, model: FusionModel, extractor: FusionFeatureExtractor) -> None:
    """Clips of 5 s a second: the model alone, the front end, and a job's batches from waveforms in memory."""
    set_exact(False)
    for dtype in (torch.float32, torch.bfloat16):
        model.to(GPU, dtype)
        name = str(dtype).removeprefix("torch.")
        for batch in BATCHES:
            inputs = inputs_on(GPU, extractor, [clip(SECONDS, 0)] * batch)
            torch.cuda.reset_peak_memory_stats()
            with torch.inference_mode():
                unmasked = speed(partial(model.forward, inputs["input_features"]), batch)
                report(model_type, f"{name}, batches of {batch}, clips/s", unmasked)
                masked = speed(partial(model.forward, **inputs), batch)
                report(model_type, f"{name}, batches of {batch}, with a mask", masked)
            peak = torch.cuda.max_memory_allocated() / 2**30
            report(model_type, f"{name}, batches of {batch}, GiB of the GPU", peak)
    clips = [clip(SECONDS, seed % 7) for seed in range(2 * BATCHES[-1])]
    report(
        model_type,
        "bfloat16, a job's batches from waveforms, clips/s",
        speed(lambda: embed(model, extractor, clips), len(clips)),
    )
    report(model_type, "front end on one core, clips/s", speed(lambda: extractor.spectrograms(clips[:16]), 16))
    if extractor.has_device_front_end:
        some = clips[: BATCHES[-1]]
        report(
            model_type,
            "front end on the GPU, with the copy, clips/s",
            speed(lambda: extractor.device_spectrograms(some, GPU), len(some)),
        )


if __name__ == "__main__":
    main()
