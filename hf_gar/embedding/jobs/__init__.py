"""Jobs: what a function makes of a source of recordings, in shards of Parquet that survive whatever happens."""
