"""`hf-gar index`: index a job's embeddings for search."""

import argparse
from typing import Any

from hf_gar.cli.messages import print_json
from hf_gar.cli.options import add_job_argument, add_json_option, whole_number


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "index",
        help="index a job's embeddings for search",
        description="Index a finished job's embeddings for search. The same command again adds what it has grown by.",
    )
    parser.set_defaults(run=run)
    add_job_argument(parser)
    parser.add_argument("--output", metavar="DIR", help="the index's folder (default: DIR/index)")
    parser.add_argument(
        "--layers", type=whole_number(0), nargs="+", metavar="LAYER", help="search only these of the fused layers"
    )
    parser.add_argument(
        "--dimensions",
        type=whole_number(1),
        default=256,
        metavar="N",
        help="number of principal components that choose candidates (default: 256)",
    )
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.search.index.embedding_index import EmbeddingIndex

    index = EmbeddingIndex.build(
        options.folder, output=options.output, layers=options.layers, dimensions=options.dimensions
    )
    description, reduction = index.description, index.reduction
    if options.json:
        result = {
            "index": str(index.folder),
            "rows": len(index),
            "dimension": description.dimension,
            "layers": description.layers,
            "components": len(reduction.components),
            "kept_variance": reduction.kept_variance,
            "exact": description.lists is None,
        }
        print_json(result)
        return 0
    kind = "searched exactly" if description.lists is None else "searched by FAISS, candidates compared exactly"
    print(f"{len(index)} recordings indexed in {index.folder}, {kind}.")
    print(
        f"{len(reduction.components)} principal components of {description.dimension} dimensions keep "
        f"{reduction.kept_variance:.1%} of the variance."
    )
    return 0
