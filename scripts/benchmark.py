"""Measure what a machine takes for what: every figure is of this machine and this run.

    python scripts/benchmark.py networks REPOSITORY ... [--recordings FOLDER] [--jobs "openvino int8"]
    python scripts/benchmark.py long REPOSITORY ... --recordings FOLDER
    python scripts/benchmark.py rows
    python scripts/benchmark.py ray REPOSITORY
    python scripts/benchmark.py training REPOSITORY --data TASK
    python scripts/benchmark.py layers REPOSITORY --data TASK
    python scripts/benchmark.py search --rows 1000000 --folder FOLDER

"networks" runs each model with each backend and precision that is installed and that `hf-gar optimize` has put into
its repository, and beside them what a user would pick instead (panns_inference, torchvggish, transformers' AST), if it
is installed: the front end and the network on clips of several lengths, which take turns; the share of what the
machine can do; how close to float32 they are; the seconds to the first embedding, the memory of loading, and, with
--jobs, recordings to Parquet. It prints tables, and writes networks.json and the chart networks.png.

"long" embeds a 40-minute and a 3-hour recording, made by repeating the recordings of a folder, each in a process of
its own, and prints the time and the peak memory. "rows" embeds 20, 2,000, 20,000 and 200,000 rows with a tiny network,
and prints the peak memory and the time a row. "ray" compares one and two Ray workers with the local engine.

"training" trains the linear probes of all folds, seeds and learning rates together and one by one, and compares times
and predictions, also with scikit-learn's logistic regression. "layers" embeds a task once for all layers and once for
each, and compares times and scores.

"search" writes a job of so many clustered embeddings into the folder, 1 % of which are noisy copies of others, and
measures indexing, search and duplicates, each in a process of its own. Recall is against an exact search on the
standardised embeddings in float32, which it does by itself.
"""

import argparse
from pathlib import Path

from benchmarks.evaluation import benchmark_layers, benchmark_training
from benchmarks.jobs import benchmark_long, benchmark_ray, benchmark_rows
from benchmarks.networks import benchmark_networks
from benchmarks.search import benchmark_search

from hf_gar.tiny import RECORDINGS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    networks = commands.add_parser("networks", help="each model with each backend, and what a user would pick instead")
    networks.add_argument("--seconds", type=float, nargs="+", default=[1, 5, 10, 30], help="the lengths of the clips")
    networks.add_argument("--repetitions", type=int, default=5)
    networks.add_argument("--batch-size", type=int, default=16, help="the most clips at a time (default: 16)")
    networks.add_argument(
        "--jobs",
        nargs="+",
        default=[],
        metavar="NAME",
        help='measure the start, and recordings to Parquet, with these as well, as in "openvino int8"',
    )
    networks.add_argument("--output", type=Path, default=Path("benchmark"), metavar="DIR")
    networks.set_defaults(run=benchmark_networks)
    long = commands.add_parser("long", help="recordings of 40 minutes and 3 hours")
    long.add_argument("--dtype", default="float32")
    long.set_defaults(run=benchmark_long)
    for command in (networks, long):
        command.add_argument("repositories", nargs="+", metavar="REPOSITORY")

    rows = commands.add_parser("rows", help="memory and time as the rows grow")
    rows.set_defaults(run=benchmark_rows)
    ray = commands.add_parser("ray", help="Ray workers against the local engine")
    ray.add_argument("repository", metavar="REPOSITORY")
    ray.add_argument("--clips", type=int, help="take so many of the recordings")
    ray.add_argument("--dtype", default="auto")
    ray.set_defaults(run=benchmark_ray)
    for command in (networks, long, rows, ray):
        command.add_argument("--recordings", type=Path, default=RECORDINGS, help="a folder with Ogg or WAV files")

    for name, run in (("training", benchmark_training), ("layers", benchmark_layers)):
        command = commands.add_parser(name, help=(run.__doc__ or "").rstrip("."))
        command.add_argument("repository", metavar="REPOSITORY")
        command.add_argument("--data", required=True, help="a task: a folder with a metadata.csv")
        command.add_argument("--seconds", type=float, help="the length that its clips are brought to")
        command.add_argument("--dtype", default="float32")
        command.set_defaults(run=run)
        if name == "training":
            command.add_argument("--unfused", action="store_true", help="the network's own embedding")

    search = commands.add_parser("search", help="indexing, search and duplicates on a synthetic job")
    search.add_argument("--rows", type=int, default=20_000)
    search.add_argument("--dimension", type=int, default=1536)
    search.add_argument("--folder", type=Path, required=True, help="of the job: a new one, or one that was kept")
    search.add_argument("--keep", action="store_true", help="leave the job there")
    search.set_defaults(run=benchmark_search)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
