"""`hf-gar optimize`: put a network for a faster runtime into a model repository."""

import argparse
from typing import Any

from hf_gar.cli.messages import say
from hf_gar.cli.options import add_input_length_option, add_layer_options, input_length, layer_choice


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "optimize",
        help="put networks for a faster runtime into a model repository",
        description="Put networks for ONNX Runtime or OpenVINO into a model repository, beside its weights, and show "
        "how close to float32 and how fast they are. hf-gar embed then takes the fastest that is good enough.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("repository", metavar="DIR", help="the repository's folder, as hf-gar export writes it")
    parser.add_argument("--backend", required=True, nargs="+", choices=["onnx", "openvino"])
    parser.add_argument(
        "--dtype",
        required=True,
        nargs="+",
        choices=["float32", "bfloat16", "int8"],
        help="bfloat16 needs openvino and a processor that has it; int8 needs a processor with VNNI",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        metavar="SOURCE",
        help="recordings like yours, named as for hf-gar embed: two thirds calibrate int8, one third is compared "
        "(default: the few that come with this package)",
    )
    parser.add_argument(
        "--allow-inaccurate", action="store_true", help="keep a network whose worst cosine to float32 is below 0.99"
    )
    add_input_length_option(parser)
    add_layer_options(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.backends.choice import GOOD_COSINE
    from hf_gar.embedding.optimization import optimize_repository

    networks = optimize_repository(
        options.repository,
        options.backend,
        options.dtype,
        options.calibration,
        allow_inaccurate=options.allow_inaccurate,
        report=(lambda _: None) if options.quiet else say,
        **layer_choice(options),
        **input_length(options),
    )
    for network in networks:
        print(f"{options.repository}/{network.files[0]}, {network.backend} in {network.dtype}")
        for name, cosines in (("clips", network.clips), ("frames", network.frames)):
            print(f"  cosine to float32, {name:6}  worst {cosines.worst:.5f}  median {cosines.median:.5f}")
        speeds = ", ".join(f"{speedup:.1f} times in {dtype}" for dtype, speedup in network.speedups.items())
        print(f"  speed to PyTorch's here    {speeds}")
        worst = {"embeddings": network.clips.worst, "frames": network.frames.worst}
        good = [what for what, cosine in worst.items() if cosine > GOOD_COSINE]
        has_one_length = network.calibration is not None and network.max_length is not None
        print(
            f"  --backend auto may take it for {' and '.join(good)}"
            + (f" at --max-length {network.max_length}" if has_one_length else "")
            if good
            else f"  --backend auto does not take it, as its worst cosine is not above {GOOD_COSINE}: name it to use it"
        )
    return 0
