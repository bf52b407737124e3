"""What finished jobs are for: searching, near-duplicates, clusters and maps of their embeddings."""
