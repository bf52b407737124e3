"""`hf-gar export`: make a model repository of a checkpoint."""

import argparse
import shlex
from typing import Any

from hf_gar.cli.options import add_layer_options, layer_choice, whole_number
from hf_gar.registry import MODELS


def add_command(commands: Any) -> None:
    parser = commands.add_parser("export", help="make a model repository of a checkpoint")
    parser.set_defaults(run=run)
    parser.add_argument("model_type", choices=list(MODELS))
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="official|FILE|REPO",
        help="the published one, a file, or a transformers model (AST, backbone-fusion)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to write, new or empty")
    parser.add_argument(
        "--sampling-rate",
        type=whole_number(1),
        metavar="HZ",
        help="sampling rate of the network, where there are several",
    )
    parser.add_argument(
        "--classifier",
        dest="with_classifier",
        action=argparse.BooleanOptionalAction,
        help="include the checkpoint's classifier (default: if it has one and the layers reach it)",
    )
    parser.add_argument("--all-layers", action="store_true", help="keep the weights of every layer")
    add_layer_options(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.hub.card import read_origin
    from hf_gar.hub.export import export_repository
    from hf_gar.hub.load import find_repository

    folder = export_repository(
        options.model_type,
        options.checkpoint,
        options.output,
        sampling_rate=options.sampling_rate,
        with_classifier=options.with_classifier,
        all_layers=options.all_layers,
        **layer_choice(options),
    )
    origin = read_origin(folder)
    assert origin is not None  # the export has written it
    source = f"{origin.checkpoint} (sha256 {origin.checkpoint_sha256[:8]}...)"
    print(f"{folder} is a complete {options.model_type} repository.")
    if origin.is_official:
        print(f"Its weights are those of the official checkpoint, {source}.")
    elif origin.base_model:
        print(f"Its weights are those of {origin.base_model} at {origin.revision}, {source}.")
    else:
        print(f"Its weights are from {source}, which is not known to be the official checkpoint.")
    if origin.dropped:
        print(f"Not in it: {', '.join(origin.dropped)}.")
    repository = find_repository(folder)
    if repository.has_classifier:
        print(f"It has the checkpoint's classifier of {repository.load_config().num_labels} labels.")
    print(f"Next: hf-gar embed RECORDINGS --model {shlex.quote(str(folder))} --output embeddings")
    return 0
