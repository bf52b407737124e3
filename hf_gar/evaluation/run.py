"""From a model and a task to a folder of results: what `hf-gar evaluate` and `hf-gar probe` do."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_gar.embedding.crop import Halves
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.embedding.sources import Source
from hf_gar.evaluation.embed_task import EmbeddingOptions, embed_task
from hf_gar.evaluation.evaluate import (
    EmbeddedTask,
    Evaluation,
    ProbeKind,
    evaluate_embeddings,
    parse_learning_rates,
)
from hf_gar.evaluation.label_free import MAX_RECORDINGS, LabelFreeRanking, embed_halves, rank_layers
from hf_gar.evaluation.layer_search import LayerSearch, Pairs, probed_layers, search_layers
from hf_gar.evaluation.optional import import_optional
from hf_gar.evaluation.partitions import SEEDS
from hf_gar.evaluation.report import EMBEDDINGS, write_evaluation, write_ranking, write_search
from hf_gar.evaluation.task_data import TaskData
from hf_gar.evaluation.tasks import TASKS
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models import FusionConfig


def run_evaluation(
    model: str | Path | Repository,
    data: TaskData,
    output: str | Path,
    *,
    model_kwargs: dict[str, Any] | None = None,
    learning_rate: str | None = None,
    probe: ProbeKind = "linear",
    seeds: Sequence[int] = SEEDS,
    embedding: EmbeddingOptions | None = None,
) -> Evaluation:
    """Evaluate a model on a task, and write embeddings, results and pictures into a folder.

    The same call again computes no embedding again.

    Args:
        model: A model repository: a folder, a name on the Hub, or what `find_repository` found.
        data: The task with its recordings.
        output: The folder; its "embeddings" is the embedding job.
        model_kwargs: Fields of the model's configuration to replace, such as {"fusion_layers": None}.
        learning_rate: A number, or "sweep" to choose on the validation clips; by default the paper's.
        probe: "linear" or "logistic".
        seeds: Of the runs.
        embedding: How the recordings are embedded; the probes are trained on the first of its devices.
    """
    _require_libraries()
    repository, embedding = find_repository(model), embedding or EmbeddingOptions()
    config = repository.load_config(**(model_kwargs or {}))
    rates = parse_learning_rates(learning_rate, data.task.learning_rate(config))
    output = Path(output)
    began = time.perf_counter()
    task = embed_task(data, repository, output / EMBEDDINGS, model_kwargs, embedding)
    embedded = time.perf_counter()
    evaluation = evaluate_embeddings(task, rates, seeds=seeds, probe=probe, device=embedding.engine.device)
    about = {
        **_describe(repository, config, data, task, seeds),
        "layers": config.layer_choice,
        "probe": probe,
        "embedding_s": round(embedded - began, 2),
        "training_s": round(time.perf_counter() - embedded, 2),
    }
    write_evaluation(output, evaluation, task, about)
    return evaluation


def run_search(
    model: str | Path | Repository,
    data: TaskData,
    output: str | Path,
    *,
    model_kwargs: dict[str, Any] | None = None,
    learning_rate: str | None = None,
    pairs: Pairs = "all",
    seeds: Sequence[int] = SEEDS,
    embedding: EmbeddingOptions | None = None,
) -> LayerSearch:
    """Search for the layers to fuse for a task, and write embeddings, results and pictures into a folder.

    The arguments are those of `run_evaluation` and `search_layers`; all layers that the repository holds are searched.
    """
    _require_libraries()
    repository, embedding = find_repository(model), embedding or EmbeddingOptions()
    held = repository.load_config(**(model_kwargs or {}))
    model_kwargs = {**(model_kwargs or {}), "fusion_layers": list(probed_layers(held))}
    config = repository.load_config(**model_kwargs)
    rates = parse_learning_rates(learning_rate, data.task.learning_rate(config))
    output = Path(output)
    began = time.perf_counter()
    task = embed_task(data, repository, output / EMBEDDINGS, model_kwargs, embedding)
    embedded = time.perf_counter()
    search = search_layers(task, layer_slices(config), rates, pairs=pairs, seeds=seeds, device=embedding.engine.device)
    about = {
        **_describe(repository, config, data, task, seeds),
        "searched_layers": list(config.fused_layers),
        "embedding_s": round(embedded - began, 2),
        "search_s": round(time.perf_counter() - embedded, 2),
    }
    write_search(output, search, about)
    return search


def run_label_free_ranking(
    model: str | Path | Repository,
    source: Source,
    output: str | Path,
    *,
    model_kwargs: dict[str, Any] | None = None,
    seconds: float | None = None,
    max_recordings: int = MAX_RECORDINGS,
    embedding: EmbeddingOptions | None = None,
) -> LabelFreeRanking:
    """Rank the layers to fuse by recordings without labels, and write embeddings and results into a folder.

    Args:
        model: As of `run_evaluation`; all layers that the repository holds are ranked.
        source: The recordings.
        output: The folder; its "embeddings" is the embedding job.
        model_kwargs: Fields of the model's configuration to replace.
        seconds: Of each half of a recording, so much is embedded at most; by default as `Halves` says.
        max_recordings: As of `embed_halves`.
        embedding: How the recordings are embedded.
    """
    _require_libraries()
    repository, embedding = find_repository(model), embedding or EmbeddingOptions()
    held = repository.load_config(**(model_kwargs or {}))
    model_kwargs = {**(model_kwargs or {}), "fusion_layers": list(probed_layers(held))}
    embedder = AudioEmbedder(
        repository,
        model_kwargs=model_kwargs,
        crop=Halves() if seconds is None else Halves(seconds),
        dtype=embedding.dtype,
        batch_size=embedding.batch_size,
    )
    began = time.perf_counter()
    halves = embed_halves(source, embedder, Path(output) / EMBEDDINGS, max_recordings, embedding)
    embedded = time.perf_counter()
    ranking = rank_layers(halves, layer_slices(embedder.config))
    about = {
        "source": source.describe()["source"],
        "model": repository.name,
        "model_name": repository.spec.variant_name(embedder.config.is_unfused),
        "ranked_layers": list(embedder.config.fused_layers),
        "recordings": ranking.num_recordings,
        "embedding_s": round(embedded - began, 2),
        "ranking_s": round(time.perf_counter() - embedded, 2),
    }
    write_ranking(Path(output), ranking, about)
    return ranking


def _require_libraries() -> None:
    """Fail before the work rather than after it."""
    for module in ("matplotlib", "scipy"):
        import_optional(module)


def _describe(
    repository: Repository, config: FusionConfig, data: TaskData, task: EmbeddedTask, seeds: Sequence[int]
) -> dict[str, Any]:
    return {
        "task": data.task.name,
        # Of your own task nobody else knows when it is complete.
        "is_complete_task": data.is_complete if data.task in TASKS.values() else None,
        "model": repository.name,
        "model_name": repository.spec.variant_name(config.is_unfused),
        "embedding_size": task.embeddings.shape[1],
        "clips": len(task.embeddings),
        "classes": len(task.classes),
        "seconds": data.task.seconds,
        "seeds": list(seeds),
    }
