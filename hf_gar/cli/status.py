"""`hf-gar status`: how far a job is."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hf_gar.cli.jobs import NOT_FINISHED
from hf_gar.cli.messages import print_json
from hf_gar.cli.options import add_json_option


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "status", help="show how far a job is", epilog="Exit codes: 0 finished, 5 not finished."
    )
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="the job's folder")
    add_json_option(parser, "the status as JSON")


def run(options: argparse.Namespace) -> int:
    from hf_gar.embedding.jobs.job_folder import ERRORS_FILE, read_description, read_status, task_of

    status = read_status(options.folder)
    description = read_description(status.output)
    if options.json:
        print_json({"job": description, **asdict(status)})
        return NOT_FINISHED if status.missing else 0
    print(f"task        {task_of(description)}")
    layers = description["fusion_layers"] or "unfused"
    how = f"{description['backend']} in {description['dtype']}"
    print(f"model       {description['model']}, layers {layers}, {how}")
    print(f"shards      {len(status.finished)} of {status.num_shards} finished")
    recordings = description["recordings"]
    print(f"recordings  {status.done} done, {status.failed} failed" + (f", of {recordings}" if recordings else ""))
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
