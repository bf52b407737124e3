"""Run in a process of its own: what a model repository's own code gives for a test sound, as its users will see it.

python remote_code_outputs.py FOLDER OUTPUT.npz
"""

import sys
from typing import Any

import numpy as np
import torch
from transformers import pipeline


def check_sound(sampling_rate: int, max_samples: int | None) -> np.ndarray:
    """Three seconds of a chirp under noise, or as long as the network takes, (sample,), the same on every machine."""
    time = np.arange(min(3 * sampling_rate, max_samples or 3 * sampling_rate)) / sampling_rate
    noise = np.random.default_rng(0).normal(size=time.size)
    return (0.3 * np.sin(2 * np.pi * (200 + 500 * time) * time) + 0.05 * noise).astype(np.float32)


if __name__ == "__main__":
    folder, output = sys.argv[1:]
    options = {"trust_remote_code": True, "device": "cpu", "dtype": "float32"}
    embed = pipeline("feature-extraction", model=folder, **options)
    rate = embed.feature_extractor.sampling_rate
    sound = check_sound(rate, embed.feature_extractor.max_samples)
    inputs = embed.feature_extractor(sound, sampling_rate=rate, return_tensors="pt")
    with torch.inference_mode():
        by_model = embed.model(**inputs).pooler_output[0].numpy()
    outputs = {"embedding": [by_model, embed({"array": sound, "sampling_rate": rate})]}
    if "audio-classification" in embed.model.config.custom_pipelines:
        classify = pipeline("audio-classification", model=folder, top_k=None, function_to_apply="none", **options)
        with torch.inference_mode():
            by_model = classify.model(**inputs).logits[0].numpy()
        scores = {each["label"]: each["score"] for each in classify({"array": sound, "sampling_rate": rate})}
        outputs["logits"] = [by_model, [scores[label] for _, label in sorted(classify.model.config.id2label.items())]]
    arrays: dict[str, Any] = {name: np.stack(pair) for name, pair in outputs.items()}  # (2, D), (2, label)
    np.savez(output, **arrays)
