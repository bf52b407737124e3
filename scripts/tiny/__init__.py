"""What `scripts/train_tiny.py` is made of: material, training, choice of layers, evidence."""
