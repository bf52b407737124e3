"""Run in a process of its own: embed a test sound with a model repository's own code, as its users will.

python remote_code_embedding.py FOLDER OUTPUT.npy
"""

import sys

import numpy as np
import torch
from transformers import pipeline


def check_sound(sampling_rate: int) -> np.ndarray:
    """Three seconds of a chirp under noise, (sample,), the same on every machine."""
    time = np.arange(3 * sampling_rate) / sampling_rate
    noise = np.random.default_rng(0).normal(size=time.size)
    return (0.3 * np.sin(2 * np.pi * (200 + 500 * time) * time) + 0.05 * noise).astype(np.float32)


if __name__ == "__main__":
    folder, output = sys.argv[1:]
    embed = pipeline("feature-extraction", model=folder, trust_remote_code=True, device="cpu", dtype="float32")
    rate = embed.feature_extractor.sampling_rate
    inputs = embed.feature_extractor(check_sound(rate), sampling_rate=rate, return_tensors="pt")
    with torch.inference_mode():
        by_model = embed.model(**inputs).pooler_output[0].numpy()
    by_pipeline = embed({"array": check_sound(rate), "sampling_rate": rate})
    np.save(output, np.stack([by_model, by_pipeline]))  # (2, D)
