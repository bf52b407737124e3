"""General-purpose audio embeddings: VGGish, CNN14 and AST with multilayer fusion, for transformers and datasets.

Importing this registers nothing and loads nothing: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_gar.audio import AudioError, load_audio
    from hf_gar.embedding.dataset import embed_dataset
    from hf_gar.embedding.embedder import AudioEmbedder
    from hf_gar.errors import HfGarError
    from hf_gar.hub.export import export_repository
    from hf_gar.models.configuration_cnn14_fusion import Cnn14FusionConfig
    from hf_gar.models.feature_extraction_cnn14_fusion import Cnn14FusionFeatureExtractor
    from hf_gar.models.modeling_cnn14_fusion import Cnn14FusionModel
    from hf_gar.models.pipeline_audio_embedding import AudioEmbeddingPipeline

_MODULES = {
    "AudioEmbedder": "hf_gar.embedding.embedder",
    "AudioEmbeddingPipeline": "hf_gar.models.pipeline_audio_embedding",
    "AudioError": "hf_gar.audio",
    "Cnn14FusionConfig": "hf_gar.models.configuration_cnn14_fusion",
    "Cnn14FusionFeatureExtractor": "hf_gar.models.feature_extraction_cnn14_fusion",
    "Cnn14FusionModel": "hf_gar.models.modeling_cnn14_fusion",
    "HfGarError": "hf_gar.errors",
    "embed_dataset": "hf_gar.embedding.dataset",
    "export_repository": "hf_gar.hub.export",
    "load_audio": "hf_gar.audio",
}

__all__ = sorted(_MODULES)  # noqa: PLE0605 - a list, made of the table above


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hf_gar' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
