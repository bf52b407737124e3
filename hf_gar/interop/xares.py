"""An encoder for X-ARES (Zhang et al., "X-ARES: A Comprehensive Framework for Assessing Audio Encoder Performance",
2025, arXiv 2505.16369).

X-ARES takes the one class of a file whose name ends in "Encoder", and calls it without arguments:

```python
from hf_gar.interop import xares

class Cnn14FusionEncoder(xares.FusionEncoder):
    model_name = "cnn14-fusion"
```
"""

import torch

from hf_gar.interop.waveforms import WaveformModel
from hf_gar.tiny import TINY


class FusionEncoder(WaveformModel):
    """A model as X-ARES takes it. A subclass names the model: a folder, or a name on the Hub."""

    model_name = TINY

    def __init__(self):
        super().__init__(self.model_name)
        self.sampling_rate = self.feature_extractor.sampling_rate  # in Hz
        self.output_dim = self.model.config.embedding_size
        self.hop_size_in_ms = 1000 * self.model.config.frame_hop_s

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """The frame embeddings (batch, frame, D) of waveforms (batch, samples) at the model's rate, in float32."""
        return self.stack([embedding.frames for embedding in self.embed(audio, with_frames=True)])
