"""`hf-gar duplicates`: recordings that a job has twice."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hf_gar.cli.messages import print_json
from hf_gar.cli.options import (
    add_audio_root_option,
    add_index_option,
    add_job_argument,
    add_json_option,
)


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "duplicates",
        help="find copies and near-duplicates in a job",
        description="Find copies and near-duplicates in a finished job. A job without an index is indexed first.",
    )
    parser.set_defaults(run=run)
    add_job_argument(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="CLOSENESS",
        help="closeness from which two recordings are near-duplicates: 1 is identical, 0 as far apart as usual there "
        "(default: chosen from the data)",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="path of the files, without .parquet and .png; older ones are replaced (default: DIR/duplicates)",
    )
    parser.add_argument("--keep-list", metavar="FILE", help="write the names of the recordings to keep, one per line")
    add_audio_root_option(parser)
    add_index_option(parser)
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.files import write_whole_file
    from hf_gar.search.duplicates import find_duplicates, kept_names, write_duplicates
    from hf_gar.search.index.embedding_index import EmbeddingIndex

    index = EmbeddingIndex.open_or_build(options.folder, options.index)
    found = find_duplicates(index, threshold=options.threshold, audio_root=options.audio_root)
    output = Path(options.folder) / "duplicates" if options.output is None else Path(options.output)
    paths = write_duplicates(found, output)
    if options.keep_list is not None:
        names = kept_names(index.job, found.groups)
        write_whole_file(Path(options.keep_list), "".join(f"{name}\n" for name in names))
    exact = int(found.pairs["is_exact"].sum())
    result = {
        "recordings": len(index),
        "groups": int(found.groups["group"].nunique()),
        "in_groups": len(found.groups),
        "pairs": len(found.pairs),
        "exact_pairs": exact,
        "threshold": found.threshold.closeness,
        "threshold_is_clear": found.threshold.is_clear,
        "compared_files": found.compared_files,
        "files": [str(path) for path in paths],
    }
    if options.json:
        print_json(result)
        return 0
    print(
        f"{result['in_groups']} of {len(index)} recordings are in {result['groups']} groups of duplicates: "
        f"{exact} pairs of the same file, {len(found.pairs) - exact} near-duplicates with a closeness of "
        f"{found.threshold.closeness:.3f} or more."
    )
    print(f"The groups are in {paths[0]}, the pairs in {paths[1]}, the histogram in {paths[2]}.")
    if not found.threshold.is_clear:
        print(
            "No clear gap tells near-duplicates from the others: look at the histogram, listen to some, and set "
            "--threshold.",
            file=sys.stderr,
        )
    if found.compared_files < len(index):
        print(
            f"The files of {len(index) - found.compared_files} recordings were not found, so copies among them are "
            "found by their sound alone. If they have moved, say where they are (--audio-root).",
            file=sys.stderr,
        )
    return 0
