"""`hf-gar embed`: embed recordings into a folder of Parquet."""

import argparse
from typing import Any

from hf_gar.cli.jobs import (
    EXIT_CODES,
    add_job_options,
    add_source_options,
    check_job_options,
    open_source_of,
    run_job_of,
)
from hf_gar.cli.options import (
    add_input_length_option,
    add_layer_options,
    add_model_options,
    chosen_model,
    input_length,
    layer_choice,
)


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "embed",
        help="embed recordings",
        description="Embed recordings into a folder of Parquet. The same command again does only what is missing.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(run=run)
    add_model_options(parser)
    add_layer_options(parser)
    add_input_length_option(parser)
    parser.add_argument(
        "--frames", dest="with_frames", action="store_true", help="store the frame embeddings and their times, too"
    )
    add_source_options(parser)
    add_job_options(parser)


def run(options: argparse.Namespace) -> int:
    check_job_options(options)

    from hf_gar.embedding.embedder import AudioEmbedder

    source = open_source_of(options)
    embedder = AudioEmbedder(
        chosen_model(options),
        revision=options.revision,
        backend=options.backend,
        dtype=options.dtype,
        model_kwargs={**layer_choice(options), **input_length(options)},
        with_frames=options.with_frames,
        batch_size=options.batch_size,
    )
    return run_job_of(options, source, embedder, "embedded")
