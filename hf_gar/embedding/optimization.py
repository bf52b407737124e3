"""Export a repository's network for another runtime, with recordings to calibrate and compare it on."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_gar.backends.description import OptimizedNetwork
from hf_gar.backends.optimization import Spectrograms, optimize_network, require_exporters
from hf_gar.embedding.decoding import read_blocks
from hf_gar.embedding.sources.source import Source, open_source
from hf_gar.errors import HfGarError
from hf_gar.hub.load import Repository, find_repository
from hf_gar.models import FusionFeatureExtractor
from hf_gar.models.audio_loading import AudioError
from hf_gar.models.chunks import split_chunks
from hf_gar.tiny import RECORDINGS

# Of a source, so many recordings at most, which are spread over it.
MAX_RECORDINGS = 192
# Every third is kept for the comparison.
HELD_OUT = 3


def optimize_repository(
    repository: str | Path | Repository,
    backend: str | Sequence[str],
    dtype: str | Sequence[str],
    calibration: str | Path | Sequence[str | Path] | Source | None = None,
    *,
    allow_inaccurate: bool = False,
    report: Callable[[str], object] = lambda line: None,
    **config: Any,
) -> list[OptimizedNetwork]:
    """Put networks for other runtimes into a model repository, beside its weights.

    What runs the model can then be chosen (`AudioEmbedder(backend=...)`, `hf-gar embed --backend`).

    Args:
        repository: A folder, or what `find_repository` found there.
        backend: "onnx" or "openvino", or both.
        dtype: "float32", "int8", or, of OpenVINO, "bfloat16"; or several, each of which is made for each backend.
        calibration: Recordings as `open_source` takes them; by default those that come with this package. An int8
            network is calibrated on two thirds of them, and every network is compared with PyTorch in float32 on the
            others; of long recordings, on the first chunk.
        allow_inaccurate: Keep a network whose worst cosine to PyTorch in float32 is below 0.99, too.
        report: Called with a line about each step.
        config: Fields of the model's configuration to replace, such as `fusion_layers`.

    Raises:
        HfGarError: It is not a repository, or not in a folder of your own; the recordings are too few; or the network
            cannot be made, or is not close enough.
        ValueError: There is no such backend or dtype, or a field of the configuration is wrong.
    """
    backends, dtypes = ([each] if isinstance(each, str) else each for each in (backend, dtype))
    kinds = [(each, precision) for each in backends for precision in dtypes]
    require_exporters(kinds)
    found = find_repository(repository)
    if not found.is_own_folder:
        how = f"cp -r {found.folder} DIR" if found.revision is None else f"hf download {found.name} --local-dir DIR"
        raise HfGarError(
            f"Networks are written into a repository's folder, and {found.name} is not a folder of yours. Copy it "
            f"first: {how}, then name DIR."
        )
    extractor = found.load_feature_extractor()
    extractor.match(found.load_config(**config))
    source = calibration
    if source is None:
        source = open_source([RECORDINGS])
    elif not isinstance(source, Source):
        source = open_source([source] if isinstance(source, (str, Path)) else source)
    spectrograms = list(_spectrograms(source, extractor))
    held_out = spectrograms[HELD_OUT - 1 :: HELD_OUT]
    if not held_out:
        raise HfGarError(f"Calibration needs at least {HELD_OUT} readable recordings. Choose others.")
    calibrated = [each for index, each in enumerate(spectrograms) if index % HELD_OUT != HELD_OUT - 1]
    name = "the recordings of hf_gar" if calibration is None else "recordings of your own"
    return optimize_network(
        found,
        kinds,
        Spectrograms(calibrated, held_out, f"{len(calibrated)} of {name}"),
        allow_inaccurate=allow_inaccurate,
        report=report,
        **config,
    )


def _spectrograms(source: Source, extractor: FusionFeatureExtractor) -> Iterator[np.ndarray]:
    """The spectrogram (time, mel) of the first chunk of each recording that can be read, of some of the source."""
    rows = source.dataset
    if isinstance(rows, datasets.Dataset) and len(rows) > MAX_RECORDINGS:
        rows = rows.select(np.linspace(0, len(rows) - 1, MAX_RECORDINGS).astype(int))
    for row in itertools.islice(rows, MAX_RECORDINGS):
        try:
            _, blocks = read_blocks(row[source.audio_column], extractor.sampling_rate, None, None)
            chunk = next(split_chunks(blocks, extractor))
        except (AudioError, OSError):
            continue
        yield extractor.spectrograms([chunk.waveform])[0]
