"""Classifiers of your own: a linear layer on a model's embeddings, or all of it fine-tuned, as a model repository."""
