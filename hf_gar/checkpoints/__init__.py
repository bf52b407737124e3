"""The networks' official files: where they are, how they are fetched, and how they become our weights."""
