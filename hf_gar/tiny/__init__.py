"""The network in the box: a small CNN14-Fusion as a model repository, which `scripts/train_tiny.py` makes.

Its code is that of `hf_gar.models`, and is not there again.
"""

from pathlib import Path

TINY = "cnn14-fusion-tiny"
FOLDER = Path(__file__).parent / TINY
