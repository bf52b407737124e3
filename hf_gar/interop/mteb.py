"""Models for mteb, the Massive Text Embedding Benchmark, which has audio tasks, too.

```python
import mteb
from hf_gar.interop.mteb import model_meta

results = mteb.evaluate(model_meta("org/cnn14-fusion"), mteb.get_tasks(tasks=["ESC50Clustering"]))
```
"""

from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_gar.embedding.embedder import AudioEmbedder
from hf_gar.hub.card import read_origin
from hf_gar.hub.load import find_repository
from hf_gar.registry import MODELS
from hf_gar.tiny import TINY

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
except ImportError as error:
    raise ImportError(f'hf_gar.interop.mteb takes mteb: pip install "mteb>=2.26" ({error})') from error

AUDIO = "audio"  # the column
LOCAL = "local"  # the organisation of a model that is a folder: mteb's names have one
# What mteb calls a part of what the official checkpoints were trained on: it does not take tasks with it for unseen.
AUDIOSET = "AudioSetMini"
CITATION = """@inproceedings{niizumi2022composing,
  title = {Composing General Audio Representation by Fusing Multilayer Features of a Pre-trained Model},
  author = {Niizumi, Daisuke and Takeuchi, Daiki and Ohishi, Yasunori and Harada, Noboru and Kashino, Kunio},
  booktitle = {EUSIPCO},
  year = {2022},
  url = {https://arxiv.org/abs/2205.08138}
}"""


class FusionEncoder(AbsEncoder):
    """A model as mteb takes it: recordings are decoded, resampled and embedded by hf_gar, at any length.

    Args:
        name: The model's, on the Hub.
        revision: Its commit there.
        folder: The model, where it is a folder, or the one that comes with hf_gar; `name` and `revision` are then only
            what mteb calls it.
        device: As in PyTorch; by default a GPU where there is one.
        embedder_options: More arguments of `AudioEmbedder`.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        *,
        folder: str | None = None,
        device: str | None = None,
        **embedder_options: Any,
    ):
        found = find_repository(name, revision) if folder is None else find_repository(folder)
        self.model = AudioEmbedder(found, device=device, **embedder_options)

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        """The clip embeddings (recording, D) of a data loader's dataset.

        Args:
            inputs: Its dataset has a column "audio".
            kwargs: What mteb says of the task, and `batch_size`, how many recordings are read at a time.
        """
        dataset = inputs.dataset.select_columns(AUDIO)
        if isinstance(dataset.features[AUDIO], datasets.Audio):
            dataset = dataset.cast_column(AUDIO, datasets.Audio(decode=False))  # as they are stored
        batches = dataset.iter(kwargs.get("batch_size", 32))
        return np.stack([each.clip for batch in batches for each in self.model.process(batch[AUDIO])])


def model_meta(model: str | Path = TINY, revision: str | None = None, **embedder_options: Any) -> ModelMeta:
    """What mteb has to know of a model repository, for `mteb.evaluate`.

    Args:
        model: A folder, or a name on the Hub; by default the small network that comes with hf_gar.
        revision: A branch, tag or commit, for a name on the Hub.
        embedder_options: More arguments of `AudioEmbedder`, such as `dtype`.

    Raises:
        HfGarError: There is no such repository.
    """
    repository = find_repository(model, revision)
    config = repository.load_config()
    origin = read_origin(repository.folder)
    source = MODELS[config.model_type].find_official(config.sampling_rate)
    is_official = origin is not None and origin.is_official
    is_on_hub = repository.revision is not None
    num_bytes = sum(path.stat().st_size for path in repository.folder.glob("*.safetensors"))
    return ModelMeta(
        loader=FusionEncoder,
        loader_kwargs={"folder": None if is_on_hub else repository.name, **embedder_options},
        name=repository.name if is_on_hub else f"{LOCAL}/{Path(repository.name).name}",
        revision=repository.revision or repository.weights_sha256,
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=num_bytes / 2**20,
        max_tokens=float("inf"),
        embed_dim=config.embedding_size,
        license=source.license if source is not None and is_official else None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        reference=f"https://huggingface.co/{repository.name}" if is_on_hub else None,
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets={AUDIOSET} if is_official else None,
        modalities=[AUDIO],
        citation=CITATION,
    )
