"""How well layers that are ranked without labels agree with their linear scores.

    python scripts/check_label_free.py --model MODEL --esc10 ESC10 --digits FSDD --output OUTPUT

Every layer and pair of MODEL is ranked by `hf-gar probe --without-labels`, on up to 1,000 recordings of each of the two
data sets, and scored by linear evaluation on the four tasks of evidence_tiny.py. For each measure it prints Spearman's
correlation with the scores, and the score of what it ranks first beside the best, the mean of all, and that of the
layers that are fused by default. Embeddings that are in OUTPUT are not computed again.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from evidence_tiny import TITLES, embed, open_tasks, score
from scipy.stats import spearmanr

from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.embedding.sources.source import open_source
from hf_gar.evaluation.label_free import MEASURES
from hf_gar.evaluation.layer_search import Layers, choose_dimensions, probed_layers
from hf_gar.evaluation.partitions import SEEDS
from hf_gar.evaluation.run import run_label_free_ranking
from hf_gar.hub.load import Repository, find_repository

RANKINGS = (*MEASURES, "mean_rank")
RESULTS_FILE = "label_free.json"


def score_choices(
    options: argparse.Namespace, repository: Repository, choices: Iterable[Layers]
) -> dict[str, dict[Layers, float]]:
    """The linear accuracy of choices of layers on each task, in %."""
    tasks, layers = open_tasks(options), probed_layers(repository.load_config())
    slices = layer_slices(repository.load_config(fusion_layers=list(layers)))
    scores: dict[str, dict[Layers, float]] = {}
    for name, task in embed(repository, tasks, layers, options.output / "layers").items():
        scores[name] = {
            choice: 100 * score(choose_dimensions(task, slices, choice), SEEDS[: options.seeds]).interval.mean
            for choice in choices
        }
        print(f"{TITLES[name]}: {len(scores[name])} choices scored", flush=True)
    return scores


def compare(candidates: pd.DataFrame, scores: dict[Layers, float], default: Layers) -> dict[str, dict[str, float]]:
    """Of each ranking, Spearman's correlation with linear scores, and the score of what it ranks first."""
    own = [scores[layers] for layers in candidates["layers"]]
    table = candidates.assign(mean_rank=-candidates["mean_rank"], score=own)
    found = {}
    for ranking in RANKINGS:
        correlation = spearmanr(table[ranking], table["score"])
        first = table.sort_values(ranking, ascending=False).iloc[0]
        found[ranking] = {"spearman": correlation.statistic, "p": correlation.pvalue, "first": first["score"]}
    return found | {"scores": {"best": max(own), "mean": sum(own) / len(own), "default": scores[default]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model repository that holds all of its layers")
    parser.add_argument("--esc10", type=Path, required=True, help="ESC-10, with metadata.csv")
    parser.add_argument("--digits", type=Path, required=True, help="the Free Spoken Digit Dataset, with metadata.csv")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), choices=range(1, len(SEEDS) + 1), help="of each probe")
    options = parser.parse_args()
    rankings = {
        name: run_label_free_ranking(options.model, open_source([folder]), options.output / "rankings" / name)
        for name, folder in (("esc10", options.esc10), ("digits", options.digits))
    }
    repository = find_repository(options.model)
    default = tuple(repository.load_config().fused_layers)
    choices = dict.fromkeys([*rankings["esc10"].candidates["layers"], default])
    results = {}
    for name, scores in score_choices(options, repository, choices).items():
        candidates = rankings["esc10" if name == "esc10" else "digits"].candidates
        results[name] = compare(candidates, scores, default)
        others = ", ".join(f"{what} {value:.1f} %" for what, value in results[name]["scores"].items())
        print(f"{TITLES[name]}: {others}")
        for ranking in RANKINGS:
            of = results[name][ranking]
            print(f"  {ranking:15} Spearman {of['spearman']:5.2f} (p {of['p']:.3f}), first: {of['first']:.1f} %")
    print("mean Spearman over the tasks:")
    for ranking in RANKINGS:
        print(f"  {ranking:15} {sum(each[ranking]['spearman'] for each in results.values()) / len(results):5.2f}")
    (options.output / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
