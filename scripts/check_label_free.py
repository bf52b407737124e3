"""How well layers that are ranked without labels agree with their linear scores.

    python scripts/check_label_free.py --model MODEL --esc10 ESC10 --digits FSDD --output OUTPUT

Every layer and pair of MODEL is ranked by `hf-gar probe --without-labels`, on up to 1,000 recordings of each of the two
data sets, and scored by linear evaluation on the four tasks of evidence_tiny.py. For each measure it prints Spearman's
correlation with the scores, and the score of what it ranks first beside the best, the mean of all, and that of the
layers that are fused by default. Embeddings that are in OUTPUT are not computed again.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from evidence_tiny import TITLES, embed, open_tasks, score
from scipy.stats import spearmanr

from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.embedding.sources import open_source
from hf_gar.evaluation.label_free import MEASURES
from hf_gar.evaluation.layer_search import choose_dimensions, probed_layers
from hf_gar.evaluation.partitions import SEEDS
from hf_gar.evaluation.run import run_label_free_ranking
from hf_gar.hub.load import find_repository

RANKINGS = (*MEASURES, "mean_rank")
RESULTS_FILE = "label_free.json"


def score_choices(options: argparse.Namespace) -> dict[str, pd.Series]:
    """The linear accuracy of every layer and pair on each task, by the layers."""
    repository, tasks = find_repository(options.model), open_tasks(options)
    layers = probed_layers(repository.load_config())
    slices = layer_slices(repository.load_config(fusion_layers=list(layers)))
    embedded = embed(repository, tasks, layers, options.output / "layers")
    choices = [*((layer,) for layer in layers), *((a, b) for a in layers for b in layers if a < b)]
    scores: dict[str, pd.Series] = {}
    for name, task in embedded.items():
        found = {
            layers: score(choose_dimensions(task, slices, layers), SEEDS[: options.seeds]).correct.mean()
            for layers in choices
        }
        scores[name] = pd.Series(found.values(), index=pd.Index(found, tupleize_cols=False))
        print(f"{TITLES[name]}: {len(choices)} choices scored", flush=True)
    return scores


def compare(candidates: pd.DataFrame, scores: pd.Series, default: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Of each ranking, Spearman's correlation with linear scores, and the score of what it ranks first."""
    table = candidates.assign(mean_rank=-candidates["mean_rank"], score=scores[candidates["layers"]].to_numpy())
    found = {}
    for ranking in RANKINGS:
        correlation = spearmanr(table[ranking], table["score"])
        first = table.loc[table[ranking].idxmax()]
        found[ranking] = {"spearman": correlation.statistic, "p": correlation.pvalue, "first": 100 * first["score"]}
    others = {"best": table["score"].max(), "mean": table["score"].mean(), "default": scores.get(default, float("nan"))}
    return found | {"scores": {name: 100 * value for name, value in others.items()}}


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
    default = tuple(find_repository(options.model).load_config().fused_layers)
    results = {}
    for name, scores in score_choices(options).items():
        candidates = rankings["esc10" if name == "esc10" else "digits"].candidates
        results[name] = compare(candidates, scores, default)
        print(TITLES[name], {what: round(value, 1) for what, value in results[name]["scores"].items()})
        for ranking in RANKINGS:
            of = results[name][ranking]
            print(f"  {ranking:15} Spearman {of['spearman']:5.2f} (p {of['p']:.3f}), first: {of['first']:.1f} %")
    print("mean Spearman over the tasks:")
    for ranking in RANKINGS:
        print(f"  {ranking:15} {sum(each[ranking]['spearman'] for each in results.values()) / len(results):5.2f}")
    (options.output / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
