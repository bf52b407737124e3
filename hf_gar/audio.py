"""Read recordings: decode, mix to mono, resample.

The code is among the hub files, since a model repository needs it where hf_gar is not installed.
"""

from hf_gar.models.audio_loading import AudioError, load_audio

__all__ = ["AudioError", "load_audio"]
