"""A fourth model, as anybody would add it: the hub file `toy_fusion.py`, a converter, and an entry in the registry."""

from pathlib import Path

from hf_gar.checkpoints.converted import ConvertedCheckpoint
from hf_gar.checkpoints.reading import read_state_dict, rename_weights
from hf_gar.registry import ModelSpec

HUB_FILE = Path(__file__).with_name("toy_fusion.py")
# The package that the tests put the hub file into, beside those that it imports.
PACKAGE = "toy_hub_files"

TOY = ModelSpec(
    model_type="toy-fusion",
    network="Toy",
    config_name=f"{PACKAGE}.toy_fusion:ToyFusionConfig",
    feature_extractor_name=f"{PACKAGE}.toy_fusion:ToyFusionFeatureExtractor",
    model_name=f"{PACKAGE}.toy_fusion:ToyFusionModel",
    converter_name="tests.toy_fusion:convert_toy",
)


def convert_toy(path: Path) -> ConvertedCheckpoint:
    """Read a checkpoint with the weights `conv1.weight`, `conv2.weight`."""
    names = {f"conv{layer}.weight": f"convolutions.{layer - 1}.weight" for layer in (1, 2)}
    return ConvertedCheckpoint(rename_weights(read_state_dict(path), names, (), path, "Toy"))
