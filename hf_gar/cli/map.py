"""`hf-gar map`: draw the embeddings of a job."""

import argparse
import sys
from typing import Any

from hf_gar.cli.options import add_audio_root_option, add_job_argument, whole_number


def add_command(commands: Any) -> None:
    parser = commands.add_parser("map", help="draw a job's embeddings as a picture and as a page that plays them")
    parser.set_defaults(run=run)
    add_job_argument(parser)
    parser.add_argument("--color", metavar="COLUMN", help="the column that colours the points: categories or numbers")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="path of the files, without .png and .html; older ones are replaced (default: DIR/map)",
    )
    parser.add_argument("--method", choices=["tsne", "umap"], default="tsne", help="umap needs the package umap-learn")
    parser.add_argument(
        "--max-points",
        type=whole_number(2),
        default=5000,
        metavar="N",
        help="draw a random sample of N recordings if there are more (default: 5000)",
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, help="seed of the sample and the method (default: 0)"
    )
    add_audio_root_option(parser)
    parser.add_argument("--embed-audio", action="store_true", help="put the recordings into the page, up to 50 MB")


def run(options: argparse.Namespace) -> int:
    from hf_gar.search.maps.embedding_map import draw_map

    summary = draw_map(
        options.folder,
        color=options.color,
        output=options.output,
        method=options.method,
        max_points=options.max_points,
        seed=options.seed,
        audio_root=options.audio_root,
        embed_audio=options.embed_audio,
    )
    of_all = f" of {summary.recordings}" if summary.drawn < summary.recordings else ""
    print(f"{summary.drawn}{of_all} recordings drawn in {summary.picture} and {summary.page}.")
    if summary.merged_categories:
        print(f"The {summary.merged_categories} rarest values of {options.color} share one grey.", file=sys.stderr)
    if summary.playable < summary.drawn:
        print(
            f"{summary.drawn - summary.playable} recordings were not found, so the page cannot play them. "
            "If they have moved, say where they are (--audio-root).",
            file=sys.stderr,
        )
    return 0
