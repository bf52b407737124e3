"""General-purpose audio embeddings: VGGish, CNN14 and AST with multilayer fusion, for transformers and datasets.

Importing this registers nothing and loads nothing: each name is imported when it is first used. The models' classes are
those that the registry names.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from hf_gar.registry import MODELS

if TYPE_CHECKING:
    from hf_gar.audio import AudioError, load_audio
    from hf_gar.classification.streaming import StreamingTagger
    from hf_gar.classification.tagger import AudioTagger
    from hf_gar.classification.tagging import tag_dataset, tag_recordings
    from hf_gar.embedding.dataset import embed_dataset
    from hf_gar.embedding.embedder import AudioEmbedder
    from hf_gar.embedding.jobs.results import read_job
    from hf_gar.embedding.jobs.run import JobOptions, embed_recordings, run_job
    from hf_gar.embedding.normalization import measure_normalization
    from hf_gar.embedding.optimization import optimize_repository
    from hf_gar.embedding.sources.source import open_source
    from hf_gar.embedding.streaming import StreamingEmbedder
    from hf_gar.errors import HfGarError
    from hf_gar.hub.export import export_repository
    from hf_gar.hub.push import push_repository
    from hf_gar.models.pipeline_audio_classification import FusionAudioClassificationPipeline
    from hf_gar.models.pipeline_audio_embedding import AudioEmbeddingPipeline
    from hf_gar.registry import register
    from hf_gar.search.index.embedding_index import EmbeddingIndex

    __version__: str

_NAMES = (
    "hf_gar.audio:AudioError",
    "hf_gar.audio:load_audio",
    "hf_gar.classification.streaming:StreamingTagger",
    "hf_gar.classification.tagger:AudioTagger",
    "hf_gar.classification.tagging:tag_dataset",
    "hf_gar.classification.tagging:tag_recordings",
    "hf_gar.embedding.dataset:embed_dataset",
    "hf_gar.embedding.embedder:AudioEmbedder",
    "hf_gar.embedding.normalization:measure_normalization",
    "hf_gar.embedding.optimization:optimize_repository",
    "hf_gar.embedding.jobs.results:read_job",
    "hf_gar.embedding.jobs.run:JobOptions",
    "hf_gar.embedding.jobs.run:embed_recordings",
    "hf_gar.embedding.jobs.run:run_job",
    "hf_gar.embedding.sources.source:open_source",
    "hf_gar.embedding.streaming:StreamingEmbedder",
    "hf_gar.errors:HfGarError",
    "hf_gar.hub.export:export_repository",
    "hf_gar.hub.push:push_repository",
    "hf_gar.models.pipeline_audio_classification:FusionAudioClassificationPipeline",
    "hf_gar.models.pipeline_audio_embedding:AudioEmbeddingPipeline",
    "hf_gar.registry:register",
    "hf_gar.search.index.embedding_index:EmbeddingIndex",
)


def _names() -> dict[str, str]:
    """What is exported -> where it is, as "module:name"."""
    places = [*_NAMES, *(place for spec in MODELS.values() for place in spec.class_names)]
    return {place.rpartition(":")[2]: place for place in places}


__all__ = sorted(_names())  # noqa: PLE0605 - a list, made of the names above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hf_gar")
    names = _names()
    if name not in names:
        raise AttributeError(f"module 'hf_gar' has no attribute {name!r}")
    return resolve_name(names[name])
