"""The index of a job: its files, how it is made and brought up to date, and `EmbeddingIndex`, which searches it."""
