"""`hf-gar prepare`: turn a public dataset's official download into a task."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="turn a public dataset's official download into a task")
    parser.set_defaults(run=run)
    parser.add_argument("task", metavar="TASK", help="one of the paper's, such as esc50")
    parser.add_argument("download", metavar="DOWNLOAD", help="the folder of the unpacked official download")
    parser.add_argument("--output", metavar="DIR", help="where metadata.csv is written (default: into DOWNLOAD)")
    parser.add_argument("--allow-other-counts", action="store_true", help="accept an incomplete download")


def run(options: argparse.Namespace) -> int:
    from hf_gar.evaluation.preparation import prepare_task

    table = prepare_task(options.task, options.download, options.output, options.allow_other_counts)
    print(f"{table} lists the task: hf-gar evaluate --task {options.task} --data {table.parent} ...")
    return 0
