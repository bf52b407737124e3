"""The network in the box: a small CNN14-Fusion as a model repository, which `scripts/train_tiny.py` makes.

Its code is that of `hf_gar.models`, and is not there again.
"""

from pathlib import Path

TINY = "cnn14-fusion-tiny"
FOLDER = Path(__file__).parent / TINY
# Short recordings to try things with, of eight kinds, which `scripts/make_demo_recordings.py` makes.
RECORDINGS = Path(__file__).parent / "recordings"
