"""General-purpose audio embeddings: VGGish, CNN14 and AST with multilayer fusion, for transformers and datasets.

Importing this registers nothing and loads nothing: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_gar.audio import AudioError, load_audio
    from hf_gar.embedding.dataset import embed_dataset
    from hf_gar.embedding.embedder import AudioEmbedder
    from hf_gar.embedding.normalization import measure_normalization
    from hf_gar.embedding.results import read_job
    from hf_gar.embedding.run import JobOptions, embed_recordings, run_job
    from hf_gar.embedding.sources import open_source
    from hf_gar.errors import HfGarError
    from hf_gar.hub.export import export_repository
    from hf_gar.hub.push import push_repository
    from hf_gar.models import (
        ASTFusionConfig,
        ASTFusionFeatureExtractor,
        ASTFusionModel,
        Cnn14FusionConfig,
        Cnn14FusionFeatureExtractor,
        Cnn14FusionModel,
        VGGishFusionConfig,
        VGGishFusionFeatureExtractor,
        VGGishFusionModel,
        register,
    )
    from hf_gar.models.pipeline_audio_embedding import AudioEmbeddingPipeline

    __version__: str

_NAMES = {
    "hf_gar.audio": ["AudioError", "load_audio"],
    "hf_gar.embedding.dataset": ["embed_dataset"],
    "hf_gar.embedding.embedder": ["AudioEmbedder"],
    "hf_gar.embedding.normalization": ["measure_normalization"],
    "hf_gar.embedding.results": ["read_job"],
    "hf_gar.embedding.run": ["JobOptions", "embed_recordings", "run_job"],
    "hf_gar.embedding.sources": ["open_source"],
    "hf_gar.errors": ["HfGarError"],
    "hf_gar.hub.export": ["export_repository"],
    "hf_gar.hub.push": ["push_repository"],
    "hf_gar.models": [
        *(
            f"{model}Fusion{kind}"
            for model in ("AST", "Cnn14", "VGGish")
            for kind in ("Config", "FeatureExtractor", "Model")
        ),
        "register",
    ],
    "hf_gar.models.pipeline_audio_embedding": ["AudioEmbeddingPipeline"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_MODULES)  # noqa: PLE0605 - a list, made of the table above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hf_gar")
    if name not in _MODULES:
        raise AttributeError(f"module 'hf_gar' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
