"""`hf-gar tag`: the labels of recordings, or the events in them, as a folder of Parquet."""

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
    add_model_options,
    chosen_model,
    input_length,
    number,
    whole_number,
)


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "tag",
        help="label recordings, or find events in them",
        description="Label recordings with a model that has a classifier, into a folder of Parquet: each recording's "
        "best labels with their scores or, with --timestamps, a row for each event. The same command again does only "
        "what is missing.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(run=run)
    add_model_options(parser)
    add_input_length_option(parser)
    parser.add_argument(
        "--label",
        dest="labels",
        action="append",
        metavar="LABEL",
        help="keep only this label; repeat it for several (default: all)",
    )
    parser.add_argument(
        "--top-k",
        type=whole_number(1),
        metavar="N",
        help="the best N labels of a recording (default: 5, or every --label)",
    )
    parser.add_argument(
        "--threshold",
        type=number(0, maximum=1),
        metavar="SCORE",
        help="keep what has this score, from 0 to 1, or more (default: all labels; with --timestamps, 0.5)",
    )

    when = parser.add_argument_group("when")
    when.add_argument(
        "--timestamps", action="store_true", help="find events: when a label begins and ends, by classifying windows"
    )
    when.add_argument(
        "--window-s", type=number(0, is_exclusive=True), metavar="SECONDS", help="the length of a window (default: 2)"
    )
    when.add_argument(
        "--hop-s",
        type=number(0, is_exclusive=True),
        metavar="SECONDS",
        help="from one window to the next (default: half a window)",
    )
    when.add_argument(
        "--audacity",
        dest="label_tracks",
        action="store_true",
        help="write a label track for Audacity of each recording, too: DIR/label_tracks/NAME.txt",
    )
    add_source_options(parser)
    add_job_options(parser)


def run(options: argparse.Namespace) -> int:
    check_job_options(options)
    if not options.timestamps and (options.window_s or options.hop_s or options.label_tracks):
        raise ValueError("--window-s, --hop-s and --audacity need --timestamps, which asks for events.")
    if options.timestamps and options.top_k:
        raise ValueError(
            "--top-k cannot be used with --timestamps: every label that reaches the --threshold is an event."
        )

    from hf_gar.classification.tagger import AudioTagger

    source = open_source_of(options)
    tagger = AudioTagger(
        chosen_model(options),
        labels=options.labels,
        top_k=options.top_k,
        threshold=options.threshold,
        timestamps=options.timestamps,
        window_s=options.window_s,
        hop_s=options.hop_s,
        label_tracks=options.label_tracks,
        revision=options.revision,
        backend=options.backend,
        dtype=options.dtype,
        model_kwargs=input_length(options),
        batch_size=options.batch_size,
    )
    return run_job_of(options, source, tagger, "tagged")
