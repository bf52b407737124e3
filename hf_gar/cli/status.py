"""`hf-gar status`: how far an embedding job is."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hf_gar.cli.embed import NOT_FINISHED


def add_command(commands: Any) -> None:
    parser = commands.add_parser("status", help="how far an embedding job is", epilog="Exit codes: 0 finished, 5 not.")
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="the job's folder")
    parser.add_argument("--json", action="store_true", help="print the status as JSON")


def run(options: argparse.Namespace) -> int:
    from hf_gar.embedding.job_folder import ERRORS_FILE, read_description, read_status

    status = read_status(options.folder)
    description = read_description(status.output)
    if options.json:
        print(json.dumps({"job": description, **asdict(status)}, default=str))
        return NOT_FINISHED if status.missing else 0
    layers = description["fusion_layers"] or "unfused"
    how = f"{description['backend']} in {description['dtype']}"
    print(f"model       {description['model']}, layers {layers}, {how}")
    print(f"shards      {len(status.finished)} of {status.num_shards} finished")
    recordings = description["recordings"]
    print(
        f"recordings  {status.embedded} embedded, {status.failed} failed" + (f", of {recordings}" if recordings else "")
    )
    if status.failed:
        print(f"failed      see {status.output / ERRORS_FILE}")
    for name, shards in (("running", status.running), ("damaged", status.damaged), ("missing", status.missing)):
        if shards:
            print(f"{name:12}{_ranges(shards)}")
    return NOT_FINISHED if status.missing else 0


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in rising order as "0-3, 7"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, limits)) for limits in ranges)
