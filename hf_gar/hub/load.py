"""Find a model repository, here or on the Hub, and load it with the installed classes: its own code is not run."""

import hashlib
import json
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from hf_gar.checkpoints.download import fetch_from_hub, file_digest
from hf_gar.errors import HfGarError
from hf_gar.models import MODEL_CLASSES, FusionConfig, FusionFeatureExtractor, FusionModel, ModelClasses

# All that is read of a repository.
FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"]


@dataclass(frozen=True)
class Repository:
    """A model repository on this machine; `revision` is the commit where it came from the Hub."""

    name: str
    revision: str | None
    folder: Path
    weights_sha256: str

    @property
    def classes(self) -> ModelClasses:
        """The installed classes of its model."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return MODEL_CLASSES[config["model_type"]]

    def load_config(self, **config: Any) -> FusionConfig:
        """The configuration; `config` replaces fields of it. A ValueError where the choice of layers is wrong."""
        fields = signature(self.classes.config).parameters
        unknown = [name for name in config if name not in fields]
        if unknown:
            raise ValueError(
                f"{self.name} is a {self.classes.config.model_type}, whose configuration has no {', '.join(unknown)}; "
                f"it has {', '.join(name for name in fields if name != 'kwargs')}."
            )
        loaded = self.classes.config.from_pretrained(self.folder, **config)
        loaded.fused_layers  # noqa: B018 - raises where the choice of layers is wrong
        return loaded

    def load_model(self, dtype: torch.dtype = torch.float32, **config: Any) -> FusionModel:
        """The model in evaluation mode; `config` replaces fields of its configuration, such as `fusion_layers`."""
        try:
            model = self.classes.model.from_pretrained(self.folder, dtype=dtype, use_safetensors=True, **config)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise HfGarError(
                f"The weights of {self.name} cannot be loaded: {error}\nExport or download the repository again."
            ) from error
        # Convolutions are faster in this layout on processors and GPUs alike.
        return model.eval().to(memory_format=torch.channels_last)

    def load_feature_extractor(self, **fields: Any) -> FusionFeatureExtractor:
        """The feature extractor; `fields` are replaced in it. A ValueError where it has no such field."""
        extractor = self.classes.feature_extractor
        unknown = fields.keys() - signature(extractor).parameters
        if unknown:
            raise ValueError(f"The feature extractor of {self.name} has no {', '.join(sorted(unknown))}.")
        return extractor.from_pretrained(self.folder, **fields)


def find_repository(name: str | Path, revision: str | None = None) -> Repository:
    """Find a model repository: a folder, or one on the Hub, of which the configuration and weights are fetched.

    Args:
        name: The folder's path, or "organisation/name".
        revision: A branch, tag or commit on the Hub.

    Raises:
        HfGarError: There is none of that name, or it is no repository of a model that hf_gar has.
    """
    folder, commit = Path(name), None
    if not folder.is_dir():
        folder = fetch_from_hub(str(name), FILES, revision)
        commit = folder.name
    elif revision is not None:
        raise HfGarError(f"{name} is a folder, which has no revision {revision!r}. Leave --revision out.")
    config = folder / "config.json"
    try:
        model_type = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError as error:
        raise HfGarError(
            f"{name} is no model repository: it has no config.json. Make one with `hf-gar export`."
        ) from error
    except (ValueError, AttributeError) as error:
        raise HfGarError(f"{config} is damaged: {error}. Export or download the repository again.") from error
    if model_type not in MODEL_CLASSES:
        raise HfGarError(f"{name} holds a model of the type {model_type!r}; hf_gar has {', '.join(MODEL_CLASSES)}.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise HfGarError(f"{name} has no weights (model.safetensors). Export or download the repository again.")
    digests = "".join(file_digest(path, "sha256") for path in weights)
    digest = digests if len(weights) == 1 else hashlib.sha256(digests.encode()).hexdigest()
    return Repository(str(name), commit, folder, digest)
