"""Options that several commands share."""

import argparse
from typing import Any


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, on which device, in which precision."""
    parser.add_argument("--model", required=True, metavar="DIR_OR_REPO", help="a folder, or a name on the Hub")
    parser.add_argument("--revision", help="of the model on the Hub: a branch, tag or commit")
    parser.add_argument(
        "--device", nargs="+", help="as in PyTorch, one process for each (default: every GPU, or the processor)"
    )
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of the model; auto, the default, is bfloat16 where the device has it natively, else float32",
    )


def add_layer_options(parser: argparse.ArgumentParser) -> None:
    """Which layers the embedding is made of."""
    layers = parser.add_mutually_exclusive_group()
    layers.add_argument("--fusion-layers", type=int, nargs="+", metavar="LAYER", help="the layers to fuse")
    layers.add_argument("--unfused", action="store_true", help="the network's own embedding, without fusion")


def layer_choice(options: argparse.Namespace) -> dict[str, Any]:
    """The choice of layers as fields of the configuration; none where the default is wanted."""
    if options.unfused:
        return {"fusion_layers": None}
    return {} if options.fusion_layers is None else {"fusion_layers": options.fusion_layers}
