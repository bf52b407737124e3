"""`hf-gar search`: the recordings of a job that sound most like a query."""

import argparse
from typing import Any

from hf_gar.cli.messages import print_json
from hf_gar.cli.options import add_index_option, add_job_argument, add_job_model_options, add_json_option, whole_number

VALUE_LENGTH = 60  # of a column, in characters


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "search",
        help="find the recordings of a job that sound most like a query",
        description="Find the recordings of a job that sound most like a query. A job without an index is indexed "
        "first.",
    )
    parser.set_defaults(run=run)
    add_job_argument(parser)
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="a recording, embedded as those of the job were")
    parser.add_argument("--row", type=whole_number(0), metavar="N", help="search with the job's row N, counted from 0")
    parser.add_argument("--file-name", metavar="NAME", help="search with the job's recording of this name")
    parser.add_argument("-k", type=whole_number(1), default=10, metavar="N", help="how many to find (default: 10)")
    parser.add_argument(
        "--where", metavar="FILTER", help="search only rows for which this is true, such as \"label = 'dog'\" (SQL)"
    )
    parser.add_argument(
        "--segment", action="store_true", help="find where in long recordings it occurs; needs a job with --frames"
    )
    add_index_option(parser)
    add_job_model_options(parser)
    add_json_option(parser, "what is found as JSON, a line for each")


def run(options: argparse.Namespace) -> int:
    from hf_gar.search.index.embedding_index import EmbeddingIndex

    given = [bool(options.queries), options.row is not None, options.file_name is not None]
    if sum(given) != 1:
        raise ValueError("Say what to look for: recordings, or --row, or --file-name.")
    index = EmbeddingIndex.open_or_build(options.folder, options.index)
    row = index.find_row(options.file_name) if options.file_name is not None else options.row
    queries = options.queries if row is None else [f"row {row}"]
    if options.segment:
        found = index.search_segments(
            options.queries or [row], options.k, where=options.where, model=options.model, device=options.device
        )
    elif row is not None:
        found = index.search_rows([row], options.k, where=options.where)
    else:
        found = index.search(
            options.queries, options.k, where=options.where, model=options.model, device=options.device
        )
    _print(found, queries, options.json)
    return 0


def _print(found: Any, queries: list[str], as_json: bool) -> None:
    """Print what was found, query by query."""
    shown = None
    for hit in found:
        query = queries[hit.pop("query")]
        if as_json:
            print_json({"query": query, **hit})
            continue
        if query != shown and len(queries) > 1:
            print(f"{query}:")
        shown = query
        print(_format(hit))


def _format(hit: dict[str, Any]) -> str:
    """A recording that was found as a line: its similarity, name, time range, and the source's columns."""
    from hf_gar.embedding.jobs.shards import NAME_COLUMNS
    from hf_gar.pictures import shorten

    name_column = next((name for name in NAME_COLUMNS if name in hit), None)
    words = [f"{hit['similarity']:7.4f}", f"row {hit['row']}" if name_column is None else str(hit[name_column])]
    if "start_s" in hit:
        words.append(f"{hit['start_s']:.2f}-{hit['end_s']:.2f} s")
    for column, value in hit.items():
        if column not in {"row", "similarity", "start_s", "end_s", name_column} and value is not None:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            words.append(f"{column}={shorten(text, VALUE_LENGTH)}")
    return "  ".join(words)
