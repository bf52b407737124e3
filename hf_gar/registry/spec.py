"""What is declared of a model: all that differs between models and is not in their hub files."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from hf_gar.errors import HfGarError
from hf_gar.registry.paper import PaperFigures, PaperVariant

if TYPE_CHECKING:
    from hf_gar.models.configuration_fusion import FusionConfig
    from hf_gar.models.feature_extraction_fusion import FusionFeatureExtractor
    from hf_gar.models.modeling_classification import FusionForAudioClassification
    from hf_gar.models.modeling_fusion import FusionModel

FUSION = "-fusion"


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A published checkpoint: a file at an address, or a model on the Hub.

    `sampling_rate` is the network's, in Hz. `digests` maps a hashlib algorithm to the hexadecimal digest of the file,
    or its beginning. A model on the Hub has none: the Hub's client checks what it downloads. `datasets` are the Hub's
    names of what the network was trained on, as far as they are there.
    """

    sampling_rate: int
    url: str
    file_name: str
    digests: Mapping[str, str]
    license: str
    license_name: str
    datasets: tuple[str, ...] = ()

    @property
    def is_on_hub(self) -> bool:
        """Whether it is a model on the Hub, whose name is `file_name`."""
        return not self.digests


@dataclass(frozen=True)
class ModelSpec:
    """A model.

    Its classes and its converter are named as "module:name" and imported when they are used: the registry itself loads
    neither PyTorch nor transformers. The classes' modules are hub files: flat, and in one folder with what they import.

    Args:
        model_type: That of its configuration, which ends in "-fusion".
        network: What the network is called: in the title of its card, and of its columns there.
        config_name: Its `FusionConfig`.
        feature_extractor_name: Its `FusionFeatureExtractor`.
        model_name: Its `FusionModel`.
        converter_name: A function from the path of a checkpoint to a `ConvertedCheckpoint`.
        classifier_name: Its `FusionForAudioClassification`, where it has one.
        card_template: The template of its card in `hub_cards`. "base.md" says what holds for every model; one that
            extends it says more.
        official_checkpoints: Those that were published; the first is downloaded unless a rate is asked for.
        paper: What the paper reports, where the network is in it.

    Raises:
        ValueError: The type has another ending.
    """

    model_type: str
    network: str
    config_name: str
    feature_extractor_name: str
    model_name: str
    converter_name: str
    classifier_name: str | None = None
    card_template: str = "base.md"
    official_checkpoints: tuple[OfficialCheckpoint, ...] = ()
    paper: PaperFigures | None = None

    def __post_init__(self):
        if not self.model_type.endswith(FUSION):
            raise ValueError(f"model_type has to end in {FUSION!r}, not be {self.model_type!r}.")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its classes, as "module:name"."""
        names = (self.config_name, self.feature_extractor_name, self.model_name, self.classifier_name)
        return tuple(name for name in names if name is not None)

    @property
    def config(self) -> "type[FusionConfig]":
        """The class of its configuration."""
        return resolve_name(self.config_name)

    @property
    def feature_extractor(self) -> "type[FusionFeatureExtractor]":
        """The class of its feature extractor."""
        return resolve_name(self.feature_extractor_name)

    @property
    def model(self) -> "type[FusionModel]":
        """The class of the model itself."""
        return resolve_name(self.model_name)

    @property
    def classifier(self) -> "type[FusionForAudioClassification] | None":
        """The class of the model with a classifier, where it has one."""
        return None if self.classifier_name is None else resolve_name(self.classifier_name)

    @property
    def convert(self) -> Callable[[Path], Any]:
        """Its converter."""
        return resolve_name(self.converter_name)

    @property
    def hub_files(self) -> dict[str, Path]:
        """The Python files that may be in its repositories, by name: those beside its classes."""
        folders = {Path(inspect.getfile(each)).parent for each in (self.config, self.feature_extractor, self.model)}
        return {path.name: path for folder in folders for path in folder.glob("*.py")}

    def variant_name(self, is_unfused: bool) -> str:
        """The model in results: its type, such as "cnn14-fusion", or "cnn14" for the network's own embedding."""
        return self.model_type.removesuffix(FUSION) if is_unfused else self.model_type

    def paper_variant(self, is_unfused: bool) -> PaperVariant | None:
        """What the paper reports of the model, fused or not; None where it is not in the paper."""
        if self.paper is None:
            return None
        return self.paper.unfused if is_unfused else self.paper.fused

    def find_official(self, sampling_rate: int) -> OfficialCheckpoint | None:
        """The official checkpoint at a rate in Hz; None where none was published."""
        return next((each for each in self.official_checkpoints if each.sampling_rate == sampling_rate), None)

    def official_checkpoint(self, sampling_rate: int | None = None) -> OfficialCheckpoint:
        """The official checkpoint at a rate in Hz, by default the first.

        Raises:
            HfGarError: None was published.
        """
        if not self.official_checkpoints:
            raise HfGarError(
                f"No official checkpoint of {self.model_type} is known: pass the path of one that you have "
                "(`checkpoint`)."
            )
        found = self.official_checkpoints[0] if sampling_rate is None else self.find_official(sampling_rate)
        if found is None:
            rates = ", ".join(f"{each.sampling_rate} Hz" for each in self.official_checkpoints)
            raise HfGarError(
                f"There is no official {self.model_type} checkpoint at {sampling_rate} Hz, only at {rates}."
            )
        return found
