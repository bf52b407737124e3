"""Reproduce table III of the paper: its models, fused and unfused, over nine tasks; the paper's numbers beside ours.

    python scripts/reproduce_table3.py --models MODELS --data DATA --output OUTPUT

MODELS holds the repositories vggish-fusion, cnn14-fusion and ast-fusion, exported with `--all-layers`; DATA a folder
for each task, such as esc50, as `hf-gar prepare` makes it. What is not there is left out. The same command again goes
on where it was: embeddings and results that are in OUTPUT are not computed again.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from hf_gar.embedding.jobs.job_folder import read_description
from hf_gar.errors import HfGarError
from hf_gar.evaluation.embed_task import EmbeddingOptions
from hf_gar.evaluation.report import EMBEDDINGS, RESULTS_FILE
from hf_gar.evaluation.run import run_evaluation
from hf_gar.evaluation.task_data import open_task
from hf_gar.evaluation.tasks import TASKS
from hf_gar.hub.load import find_repository
from hf_gar.registry import MODELS
from hf_gar.registry.paper import PAPER_TASKS

COLUMNS = list(PAPER_TASKS)
# The paper's accuracies, by what a model is called in results, unfused and fused.
PAPER = {
    spec.variant_name(is_unfused): variant.accuracies
    for spec in MODELS.values()
    for is_unfused in (True, False)
    if (variant := spec.paper_variant(is_unfused)) is not None
}


def evaluate_all(options: argparse.Namespace) -> dict[tuple[str, str], dict]:
    """The results of each (model, task) that is there."""
    results = {}
    for name in COLUMNS:
        if not (options.data / name).is_dir():
            print(f"{name}: not in {options.data}, left out", flush=True)
            continue
        data = open_task(options.data / name, name, allow_other_counts=options.allow_other_counts)
        for repository, spec in MODELS.items():
            if spec.paper is None:
                continue
            if not (options.models / repository).is_dir():
                print(f"{repository}: not in {options.models}, left out", flush=True)
                continue
            for is_unfused in (True, False):
                variant = spec.variant_name(is_unfused)
                output = options.output / name / variant
                if not is_current(output, options.models / repository, len(data.targets)):
                    run_evaluation(
                        options.models / repository,
                        data,
                        output,
                        model_kwargs={"fusion_layers": None} if is_unfused else {},
                        embedding=EmbeddingOptions(
                            devices=tuple(options.device or ()),
                            dtype=options.dtype,
                            batch_size=options.batch_size,
                            allow_failures=options.allow_other_counts,
                        ),
                    )
                results[variant, name] = json.loads((output / RESULTS_FILE).read_text(encoding="utf-8"))
                found = results[variant, name]
                print(
                    f"{name} {variant}: {100 * found['test']:.1f} % (embedding {found['embedding_s']:.0f} s, training "
                    f"{found['training_s']:.0f} s)",
                    flush=True,
                )
    return results


def is_current(output: Path, repository: Path, clips: int) -> bool:
    """Whether there are results of these weights and of as many clips as there are now."""
    try:
        found = json.loads((output / RESULTS_FILE).read_text(encoding="utf-8"))
        weights = read_description(output / EMBEDDINGS)["weights_sha256"]
    except (OSError, ValueError, HfGarError):
        return False
    return (found["clips"], weights) == (clips, find_repository(repository).weights_sha256)


def compare(results: dict[tuple[str, str], dict]) -> pd.DataFrame:
    """A table of three lines a model: the paper's numbers, ours, and the differences."""
    lines = {}
    for variant, numbers in PAPER.items():
        paper = pd.Series(numbers)
        ours = pd.Series({name: 100 * found["test"] for (model, name), found in results.items() if model == variant})
        ours = ours.reindex(COLUMNS).astype(float)
        lines[variant, "paper"] = _with_average(paper)
        lines[variant, "here"] = _with_average(ours)
        lines[variant, "difference"] = lines[variant, "here"] - lines[variant, "paper"]
    table = pd.DataFrame(lines).T
    return table.rename(columns={name: TASKS[name].title for name in COLUMNS})


def _with_average(scores: pd.Series) -> pd.Series:
    """The scores and, where none is missing, their average."""
    return pd.concat([scores, pd.Series({"average": scores.mean(skipna=False)})])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="the folder with the three repositories")
    parser.add_argument("--data", type=Path, required=True, help="the folder with a folder for each task")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", nargs="+")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--allow-other-counts", action="store_true", help="take incomplete tasks")
    options = parser.parse_args()
    table = compare(evaluate_all(options))
    options.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.output / "table3.csv")
    print(table.round(1).to_string(na_rep="-"))


if __name__ == "__main__":
    main()
