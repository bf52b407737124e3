"""From a model and a task to a folder of results: what `hf-gar evaluate` and `hf-gar probe` do."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_gar.embedding.crop import Halves
from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.embedding.layer_slices import layer_slices
from hf_gar.embedding.sources.source import Source
from hf_gar.evaluation.embed_task import EmbeddingOptions, concatenate, embed_task
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
from hf_gar.evaluation.tasks import LEARNING_RATE, TASKS
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models import FusionConfig

Model = str | Path | Repository


def run_evaluation(
    model: Model | Sequence[Model],
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

    The same call again computes no embedding again. Of several models, the embeddings are concatenated and evaluated as
    one: each dimension is standardised before a classifier sees it, so that none outweighs the others.

    Args:
        model: A model repository: a folder, a name on the Hub, or what `find_repository` found; or several.
        data: The task with its recordings.
        output: The folder; its "embeddings" is the embedding job, those of several models "embeddings-1" and so on.
        model_kwargs: Fields of the models' configuration to replace, such as {"fusion_layers": None}.
        learning_rate: A number, or "sweep" to choose on the validation clips; by default the paper's, of several models
            `LEARNING_RATE`.
        probe: "linear" or "logistic".
        seeds: Of the runs.
        embedding: How the recordings are embedded; the probes are trained on the first of its devices.
    """
    _require_libraries()
    embedding, output = embedding or EmbeddingOptions(), Path(output)
    models = [model] if isinstance(model, str | Path | Repository) else model
    repositories = [find_repository(each) for each in models]
    configs = [repository.load_config(**(model_kwargs or {})) for repository in repositories]
    is_one = len(repositories) == 1
    rates = parse_learning_rates(learning_rate, data.task.learning_rate(configs[0]) if is_one else LEARNING_RATE)
    folders = [EMBEDDINGS] if is_one else [f"{EMBEDDINGS}-{number + 1}" for number in range(len(repositories))]
    began = time.perf_counter()
    task = concatenate(
        [
            embed_task(data, repository, output / folder, model_kwargs, embedding)
            for repository, folder in zip(repositories, folders, strict=True)
        ]
    )
    embedded = time.perf_counter()
    evaluation = evaluate_embeddings(task, rates, seeds=seeds, probe=probe, device=embedding.engine.device)
    about = {
        **_describe(repositories, configs, data, task, seeds),
        "layers": configs[0].layer_choice if is_one else [config.layer_choice for config in configs],
        "probe": probe,
        "embedding_s": round(embedded - began, 2),
        "training_s": round(time.perf_counter() - embedded, 2),
    }
    write_evaluation(output, evaluation, task, about)
    return evaluation


def run_search(
    model: Model,
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
        **_describe([repository], [config], data, task, seeds),
        "searched_layers": list(config.fused_layers),
        "embedding_s": round(embedded - began, 2),
        "search_s": round(time.perf_counter() - embedded, 2),
    }
    write_search(output, search, about)
    return search


def run_label_free_ranking(
    model: Model,
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
        model: As in `run_evaluation`; all layers that the repository holds are ranked.
        source: The recordings.
        output: The folder; its "embeddings" is the embedding job.
        model_kwargs: Fields of the model's configuration to replace.
        seconds: Of each half of a recording, so much is embedded at most; by default as `Halves` says.
        max_recordings: As in `embed_halves`.
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
        backend=embedding.backend,
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
    repositories: Sequence[Repository],
    configs: Sequence[FusionConfig],
    data: TaskData,
    task: EmbeddedTask,
    seeds: Sequence[int],
) -> dict[str, Any]:
    names = [repository.name for repository in repositories]
    return {
        "task": data.task.name,
        # Of your own task nobody else knows when it is complete.
        "is_complete_task": data.is_complete if data.task in TASKS.values() else None,
        "model": names[0] if len(names) == 1 else names,
        "model_name": " + ".join(
            repository.spec.variant_name(config.is_unfused)
            for repository, config in zip(repositories, configs, strict=True)
        ),
        "embedding_size": task.embeddings.shape[1],
        "clips": len(task.embeddings),
        "classes": len(task.classes),
        "seconds": data.task.seconds,
        "seeds": list(seeds),
    }
