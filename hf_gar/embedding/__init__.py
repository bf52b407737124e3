"""Dataset-wide embedding: the map function, what can be embedded, and jobs that write Parquet."""
