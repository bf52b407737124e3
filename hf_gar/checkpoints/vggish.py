"""VGGish's checkpoints, in the two layouts that were published (Apache-2.0, from Google's AudioSet models)."""

from pathlib import Path

from hf_gar.checkpoints.converted import ConvertedCheckpoint
from hf_gar.checkpoints.reading import read_state_dict, rename_weights
from hf_gar.models.configuration_vggish_fusion import CONVOLUTIONS, FULLY_CONNECTED


def convert_vggish(path: Path) -> ConvertedCheckpoint:
    """Read a VGGish file: `pytorch_vggish.zip` or the `.pth` in it, or torchvggish's `vggish-10086976.pth`.

    Raises:
        HfGarError: It is another file, or a weight is missing or unexpected.
    """
    checkpoint = read_state_dict(path)
    # Both layouts number the modules of an `nn.Sequential`, where a layer's weights stand before its ReLU.
    fully_connected = "embeddings" if any(key.startswith("embeddings.") for key in checkpoint) else "fc"
    names: dict[str, str] = {}
    for leaf in ("weight", "bias"):
        names |= {f"features.{layer - 1}.{leaf}": f"convolutions.{layer}.{leaf}" for layer in CONVOLUTIONS}
        names |= {
            f"{fully_connected}.{2 * index}.{leaf}": f"fully_connected.{layer}.{leaf}"
            for index, layer in enumerate(FULLY_CONNECTED)
        }
    return ConvertedCheckpoint(rename_weights(checkpoint, names, (), path, "VGGish"))
