"""Where the official checkpoints are, with their digests and licences."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A published checkpoint: a file at an address, or a model on the Hub.

    `digests` maps a hashlib algorithm to the hexadecimal digest of the file, or its beginning. A model on the Hub has
    none: the Hub's client checks what it downloads. `datasets` are the Hub's names of what the network was trained on,
    as far as they are there.
    """

    model_type: str
    sampling_rate: int  # in Hz
    url: str
    file_name: str
    digests: dict[str, str]
    license: str
    license_name: str
    datasets: tuple[str, ...] = ()

    @property
    def is_on_hub(self) -> bool:
        """Whether it is a model on the Hub, whose name is `file_name`."""
        return not self.digests


AUDIOSET = ("agkphysics/AudioSet",)

OFFICIAL_CHECKPOINTS = (
    OfficialCheckpoint(
        model_type="vggish-fusion",
        sampling_rate=16000,
        url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        file_name="vggish-10086976.pth",
        digests={"sha256": "10086976"},  # the beginning, which its publisher gives in the file's name
        license="apache-2.0",
        license_name="Apache-2.0",
    ),
    OfficialCheckpoint(
        model_type="cnn14-fusion",
        sampling_rate=16000,
        url="https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1",
        file_name="Cnn14_16k_mAP=0.438.pth",
        digests={
            "md5": "362fc5ff18f1d6ad2f6d464b45893f2c",
            "sha256": "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
        },
        license="cc-by-4.0",
        license_name="CC BY 4.0",
        datasets=AUDIOSET,
    ),
    OfficialCheckpoint(
        model_type="cnn14-fusion",
        sampling_rate=32000,
        url="https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
        file_name="Cnn14_mAP=0.431.pth",
        digests={"md5": "541141fa2ee191a88f24a3219fff024e"},
        license="cc-by-4.0",
        license_name="CC BY 4.0",
        datasets=AUDIOSET,
    ),
    OfficialCheckpoint(
        model_type="ast-fusion",
        sampling_rate=16000,
        url="https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593",
        file_name="MIT/ast-finetuned-audioset-10-10-0.4593",
        digests={},
        license="bsd-3-clause",
        license_name="BSD-3-Clause",
        datasets=AUDIOSET,
    ),
)


def official_checkpoint(model_type: str, sampling_rate: int) -> OfficialCheckpoint:
    """The official checkpoint of a model at a sampling rate in Hz.

    Raises:
        ValueError: None was published.
    """
    rates = {source.sampling_rate: source for source in OFFICIAL_CHECKPOINTS if source.model_type == model_type}
    if sampling_rate not in rates:
        raise ValueError(
            f"There is no official {model_type} checkpoint at {sampling_rate} Hz, only at "
            f"{', '.join(f'{rate} Hz' for rate in rates)}."
        )
    return rates[sampling_rate]
