"""What mteb, HEAR and X-ARES write of a model, as a model card takes it."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from hf_gar.errors import HfGarError
from hf_gar.hub.load import Repository

MODEL_META = "model_meta.json"  # mteb's, beside its results
HEAR_RESULTS = "test.predicted-scores.json"
XARES_RESULTS = {"mlp_score.txt": "MLP", "knn_score.txt": "k-NN"}
URLS = {
    "mteb": "https://github.com/embeddings-benchmark/mteb",
    "HEAR": "https://hearbenchmark.com",
    "X-ARES": "https://github.com/jimbozhang/xares",
}
DIGEST_LENGTH = 64


def read_benchmark(path: Path, repository: Repository) -> EvalResult:
    """The score in a benchmark's result file.

    Args:
        path: Of mteb, TASK.json; of HEAR, TASK/test.predicted-scores.json; of X-ARES, mlp_score.txt or knn_score.txt in
            TASK/checkpoints/ENCODER.
        repository: The model repository that the score is for. HEAR and X-ARES do not write which model they ran.

    Raises:
        HfGarError: It is not such a file, or mteb ran another model.
    """
    try:
        if path.name == HEAR_RESULTS:
            return _result("HEAR", path.parent.name, "score", _read_hear(json.loads(path.read_text(encoding="utf-8"))))
        if path.name in XARES_RESULTS:
            kind, task = XARES_RESULTS[path.name], path.absolute().parents[2].name
            return _result("X-ARES", task, kind, float(path.read_text(encoding="utf-8").split()[0]))
        found = json.loads(path.read_text(encoding="utf-8"))
        scores = [subset["main_score"] for subsets in found["scores"].values() for subset in subsets]
        result = _result("mteb", found["task_name"], "main_score", sum(scores) / len(scores))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise HfGarError(
            f"{path} holds no scores: {error!r}. Expected a folder of `hf-gar evaluate`, or a result file of mteb, "
            f"HEAR ({HEAR_RESULTS}) or X-ARES ({', '.join(XARES_RESULTS)})."
        ) from error
    _require_same_model(path.with_name(MODEL_META), repository)
    return result


def _read_hear(found: dict[str, Any]) -> float:
    """The score of a task, or the mean of its folds'."""
    if "aggregated_scores" in found:
        return found["aggregated_scores"]["test_score_mean"]
    (score,) = (split["test_score"] for split in found.values() if isinstance(split, dict) and "test_score" in split)
    return score


def _require_same_model(path: Path, repository: Repository) -> None:
    """Raise a HfGarError where mteb's description of a folder's model has the digest of other weights."""
    if not path.exists():
        return
    revision = json.loads(path.read_text(encoding="utf-8")).get("revision")
    if len(str(revision)) == DIGEST_LENGTH and revision != repository.weights_sha256:
        raise HfGarError(
            f"{path.parent} is of the weights {revision[:8]}, but {repository.name} has "
            f"{repository.weights_sha256[:8]}. Evaluate this repository."
        )


def _result(benchmark: str, task: str, metric: str, score: float) -> EvalResult:
    return EvalResult(
        task_type="feature-extraction",
        dataset_type=task,
        dataset_name=f"{task} ({benchmark}, {metric})",
        metric_type=metric,
        metric_value=round(100 * score, 1),
        metric_name=f"{benchmark}, {metric} in %",
        source_name=benchmark,
        source_url=URLS[benchmark],
    )
