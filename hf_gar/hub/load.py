"""Find a model repository, here or on the Hub, and load it with the installed classes: its own code is not run."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open

from hf_gar.checkpoints.download import SHA256, fetch_from_hub, file_digest
from hf_gar.checkpoints.reading import read_json
from hf_gar.errors import HfGarError
from hf_gar.models import (
    FusionConfig,
    FusionFeatureExtractor,
    FusionForAudioClassification,
    FusionModel,
    FusionPreTrainedModel,
)
from hf_gar.models.fusion import ClipPooling
from hf_gar.models.modeling_fusion import CLASSIFIER_WEIGHTS
from hf_gar.quiet import quiet_libraries
from hf_gar.registry import MODELS, ModelSpec
from hf_gar.tiny import FOLDER, TINY

CONFIG_FILE = "config.json"
FEATURE_EXTRACTOR_FILE = "preprocessor_config.json"
AnyModel = TypeVar("AnyModel", bound=FusionPreTrainedModel)
# What networks for other runtimes are beside the weights.
OPTIMIZED_FILE = "optimized.json"
# All that is read of a repository, but for those networks, which are fetched when they are used; of its card, the
# licence of what is made of it.
FILES = [
    CONFIG_FILE,
    FEATURE_EXTRACTOR_FILE,
    OPTIMIZED_FILE,
    "README.md",
    "*.safetensors",
    "*.safetensors.index.json",
]


@dataclass(frozen=True)
class Repository:
    """A model repository on this machine.

    `revision` is the commit where it came from the Hub; `spec` its model, whose installed classes load it.
    """

    name: str
    revision: str | None
    folder: Path
    weights_sha256: str
    spec: ModelSpec

    @property
    def is_own_folder(self) -> bool:
        """Whether it is a folder of the user's, neither from the Hub nor the one that comes with this package."""
        return self.revision is None and self.folder != FOLDER

    def load_config(self, **config: Any) -> FusionConfig:
        """The configuration; `config` replaces fields of it.

        Raises:
            HfGarError: The file is damaged.
            ValueError: There is no such field, or it cannot have that value.
        """
        config_class = self.spec.config
        # A model's own fields, and those of every configuration.
        fields = {**signature(config_class).parameters, **signature(FusionConfig).parameters}
        unknown = [name for name in config if name not in fields]
        if unknown:
            raise ValueError(
                f"{self.name} is a {config_class.model_type}, whose configuration has no {', '.join(unknown)}; "
                f"it has {', '.join(name for name in fields if name != 'kwargs')}."
            )
        with loading(f"{self.folder / CONFIG_FILE}"):
            loaded = config_class.from_pretrained(self.folder)
        for name, value in config.items():
            setattr(loaded, name, value)
        loaded.check()
        return loaded

    def load_model(self, dtype: torch.dtype = torch.float32, **config: Any) -> FusionModel:
        """The model in evaluation mode; `config` replaces fields of its configuration, such as `fusion_layers`.

        Raises:
            HfGarError: The weights are damaged, not those of the configuration, or not finite.
            ValueError: As `load_config`.
        """
        return self._load(self.spec.model, self.load_config(**config), dtype)

    def load_pooling(self, config: FusionConfig) -> ClipPooling:
        """What makes a clip's embedding of its chunks, without the rest of the model where that is not needed.

        Raises:
            HfGarError: As `load_model`.
        """
        with torch.device("meta"):
            pooling = self.spec.model(config).pooling
        return self._load(self.spec.model, config).pooling if pooling.has_weights else pooling

    def fetch(self, files: Sequence[str]) -> Path:
        """The folder with some of the repository's files, which are fetched from the Hub where it came from there.

        Raises:
            HfGarError: The Hub cannot be reached, or a file that was fetched is not the one there.
        """
        return self.folder if self.revision is None else fetch_from_hub(self.name, list(files), self.revision)

    @property
    def has_classifier(self) -> bool:
        """Whether a classifier's weights are beside the model's.

        Raises:
            HfGarError: The weights are damaged.
        """
        with loading(f"The weights of {self.name}"):
            for path in self.folder.glob("*.safetensors"):
                with safe_open(path, "pt") as file:
                    if any(re.match(CLASSIFIER_WEIGHTS, name) for name in file.keys()):  # noqa: SIM118 - no dictionary
                        return True
        return False

    def require_classifier(self) -> type[FusionForAudioClassification]:
        """The class of the classifier; a HfGarError where there is none."""
        if self.spec.classifier is None or not self.has_classifier:
            raise HfGarError(
                f"{self.name} has no classifier, only embeddings. CNN14 and AST have one of AudioSet's labels, which "
                "`hf-gar export` writes unless it is told not to; for labels of your own, `hf-gar train` makes one."
            )
        return self.spec.classifier

    def load_classifier(self, dtype: torch.dtype = torch.float32, **config: Any) -> FusionForAudioClassification:
        """The model with its classifier, in evaluation mode; `config` replaces fields of its configuration.

        Raises:
            HfGarError: There is none, or the weights are damaged, not those of the configuration, or not finite.
            ValueError: As `load_config`.
        """
        classifier_class = self.require_classifier()
        return self._load(classifier_class, self.load_config(**config), dtype)

    def _load(self, model_class: type[AnyModel], config: FusionConfig, dtype: torch.dtype = torch.float32) -> AnyModel:
        with loading(f"The weights of {self.name}"):
            model = model_class.from_pretrained(self.folder, config=config, dtype=dtype, use_safetensors=True)
        return model.eval()

    def load_feature_extractor(self, **fields: Any) -> FusionFeatureExtractor:
        """The feature extractor; `fields` are replaced in it.

        Raises:
            HfGarError: The file is damaged, or not of this model.
            ValueError: There is no such field, or it cannot have that value.
        """
        extractor_class = self.spec.feature_extractor
        unknown = fields.keys() - signature(extractor_class).parameters
        if unknown:
            raise ValueError(f"The feature extractor of {self.name} has no {', '.join(sorted(unknown))}.")
        with loading(f"{self.folder / FEATURE_EXTRACTOR_FILE}"):
            loaded = extractor_class.from_pretrained(self.folder)
            loaded.match(self.load_config())
        return extractor_class.from_pretrained(self.folder, **fields) if fields else loaded


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Quiet the libraries, and turn what they raise into a HfGarError: of a damaged file, that may be anything."""
    with quiet_libraries():
        try:
            yield
        except HfGarError:
            raise
        except ValueError as error:  # says what to do
            raise HfGarError(f"{what} cannot be loaded: {error}") from error
        except Exception as error:
            raise HfGarError(f"{what} cannot be loaded: {error}\nExport or download the repository again.") from error


def find_repository(name: str | Path | Repository, revision: str | None = None) -> Repository:
    """Find a model repository: a folder, one on the Hub, of which the configuration and weights are fetched, or the
    one that comes with this package.

    Args:
        name: The folder's path, "organisation/name", or "cnn14-fusion-tiny"; a repository that was found already is
            returned as it is.
        revision: A branch, tag or commit on the Hub.

    Raises:
        HfGarError: There is none of that name, or it is no repository of a model that hf_gar has.
    """
    if isinstance(name, Repository):
        if revision not in (None, name.revision):
            raise ValueError(f"{name.name} was found at the revision {name.revision}, not {revision!r}.")
        return name
    folder, commit = Path(name), None
    if str(name) == TINY and not folder.is_dir():
        folder = FOLDER
    if not folder.is_dir():
        folder = fetch_from_hub(str(name), FILES, revision)
        commit = folder.name
    elif revision is not None:
        raise HfGarError(f"{name} is a folder, which has no revision {revision!r}. Leave `revision` out.")
    spec = _find_spec(name, folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise HfGarError(f"{name} has no weights (model.safetensors). Export or download the repository again.")
    digest = joint_digest([_weights_digest(path, was_fetched=commit is not None) for path in weights])
    return Repository(str(name), commit, folder, digest, spec)


def joint_digest(digests: list[str]) -> str:
    """The digest of one file, or one for several, of their sha256."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _weights_digest(path: Path, was_fetched: bool) -> str:
    blob = path.resolve().name  # of a file that was fetched: the digest that it was compared with
    return blob if was_fetched and SHA256.fullmatch(blob) else file_digest(path, "sha256")


def _find_spec(name: str | Path, folder: Path) -> ModelSpec:
    """The model of a folder; a HfGarError where it is not a complete repository of one of the models."""
    for file in (CONFIG_FILE, FEATURE_EXTRACTOR_FILE):
        if not (folder / file).is_file():
            raise HfGarError(f"{name} is not a model repository: it has no {file}. Make one with `hf-gar export`.")
    config, feature_extractor = read_json(folder / CONFIG_FILE), read_json(folder / FEATURE_EXTRACTOR_FILE)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in MODELS:
        raise HfGarError(f"{name} holds a model of the type {model_type!r}; hf_gar has {', '.join(MODELS)}.")
    spec = MODELS[model_type]
    found_type = feature_extractor.get("feature_extractor_type")
    if found_type != spec.feature_extractor.__name__:
        raise HfGarError(
            f"{folder / FEATURE_EXTRACTOR_FILE} has feature_extractor_type={found_type!r}, but the model is a "
            f"{model_type}, which has a {spec.feature_extractor.__name__}. Export or download the repository again."
        )
    for file, fields in ((CONFIG_FILE, config), (FEATURE_EXTRACTOR_FILE, feature_extractor)):
        _check_auto_map(folder / file, fields.get("auto_map", {}), spec)
    return spec


def _check_auto_map(path: Path, auto_map: Any, spec: ModelSpec) -> None:
    """Raise a HfGarError where the classes that a file names are not those of its model."""
    if not isinstance(auto_map, dict):
        raise HfGarError(f"{path} has auto_map={auto_map!r}, expected an object. Export the repository again.")
    expected = {
        "AutoConfig": spec.config,
        "AutoFeatureExtractor": spec.feature_extractor,
        "AutoModel": spec.model,
        "AutoModelForAudioClassification": spec.classifier,
    }
    for name, expected_class in expected.items():
        if expected_class is None:
            continue
        reference = auto_map.get(name, expected_class.__name__)
        if str(reference).rsplit(".", 1)[-1] != expected_class.__name__:
            raise HfGarError(
                f"{path} has {name}={reference!r} in its auto_map, but the model is a {spec.model_type}, "
                f"which has a {expected_class.__name__}. Export or download the repository again."
            )
