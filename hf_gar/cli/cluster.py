"""`hf-gar cluster`: the groups that a job's recordings form."""

import argparse
import sys
from typing import Any

from hf_gar.cli.messages import print_json
from hf_gar.cli.options import add_index_option, add_job_argument, add_json_option, whole_number


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "cluster",
        help="group a job's recordings by their sound",
        description="Group a finished job's recordings by their sound. `hf-gar map --color cluster` then draws the "
        "groups. A job without an index is indexed first.",
    )
    parser.set_defaults(run=run)
    add_job_argument(parser)
    parser.add_argument("--method", choices=["hdbscan", "kmeans"], default="hdbscan", help="(default: hdbscan)")
    parser.add_argument("--clusters", type=whole_number(2), metavar="N", help="number of clusters, for kmeans")
    parser.add_argument(
        "--min-size", type=whole_number(2), metavar="N", help="minimum number of recordings in a cluster, for hdbscan"
    )
    parser.add_argument(
        "--label", metavar="COLUMN", help="column to compare the clusters with (default: label, if there is one)"
    )
    add_index_option(parser)
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    from hf_gar.search.clusters import NO_CLUSTER, find_clusters, write_clusters
    from hf_gar.search.index.embedding_index import EmbeddingIndex

    index = EmbeddingIndex.open_or_build(options.folder, options.index)
    found = find_clusters(
        index,
        method=options.method,
        clusters=options.clusters,
        min_size=options.min_size,
        label=options.label,
    )
    path = write_clusters(index.job, found)
    outside = int((found.rows["cluster"] == NO_CLUSTER).sum())
    summary = found.summary.astype(object).where(found.summary.notna(), None).to_dict("records")
    if options.json:
        result = {
            "recordings": len(index),
            "in_no_cluster": outside,
            "clusters": summary,
            "label": found.label,
            "adjusted_mutual_information": found.adjusted_mutual_information,
            "file": str(path),
        }
        print_json(result)
        return 0
    print(f"{len(summary)} clusters; {outside} of {len(index)} recordings are in none.")
    for row in summary:
        labels = f"  {row['label_share']:4.0%} {row['label']}" if row.get("label") is not None else ""
        print(f"{row['cluster']:5d}  {row['size']:6d}{labels}  {', '.join(row['central'])}")
    if found.adjusted_mutual_information is not None:
        print(f"Adjusted mutual information with {found.label}: {found.adjusted_mutual_information:.3f}.")
    print(f"The cluster of each recording is in {path}.")
    if found.sampled < len(index):
        print(
            f"A random sample of {found.sampled} recordings was clustered; the others follow the nearest of them.",
            file=sys.stderr,
        )
    return 0
