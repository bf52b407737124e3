"""A model repository as a folder: make one from a checkpoint, describe it, load it without running its code."""
