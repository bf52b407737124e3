"""`hf-gar app`: a page that searches a job by sound."""

import argparse
import time
from typing import Any

from hf_gar.cli.options import add_index_option, add_job_model_options, whole_number
from hf_gar.cli.stopping import Stopped


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "app",
        help="open a page that searches a job by sound",
        description="Serve a page where you drop or record a sound and get its labels over time (where the model has a "
        "classifier), the recordings of the job that are most similar, and its place on a map. A job without an index "
        "is indexed first.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "folder",
        metavar="DIR_OR_DATASET",
        help="the folder that `hf-gar embed` wrote, or the dataset on the Hub that `hf-gar push-dataset` made of one",
    )
    add_index_option(parser)
    add_job_model_options(parser)
    parser.add_argument("--color", metavar="COLUMN", help="the column that colours the map")
    parser.add_argument(
        "--audio-root",
        metavar="DIR_OR_ADDRESS",
        help="the folder of the recordings, where they have moved; or hf://datasets/ORG/NAME",
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=whole_number(1), metavar="N", help="(default: the first free one from 7860)")


def run(options: argparse.Namespace) -> int:
    from hf_gar.search.app.gradio_app import LAUNCH_OPTIONS, build_app

    app = build_app(
        options.folder,
        index=options.index,
        model=options.model,
        device=options.device,
        color=options.color,
        audio_root=options.audio_root,
    )
    address = app.launch(
        server_name=options.host, server_port=options.port, prevent_thread_lock=True, quiet=True, **LAUNCH_OPTIONS
    )[1]
    print(f"The app is at {address}; Ctrl-C ends it.", flush=True)
    try:
        while True:  # not in one wait for an event: where Polars is loaded, a signal does not end it
            time.sleep(1)
    except Stopped as stopped:  # the usual way to end the app: nothing is left to resume
        app.close(verbose=False)
        return stopped.exit_code
