"""Evaluation: tasks, linear probes on frozen embeddings, the choice of layers, and reports."""
