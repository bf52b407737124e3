"""The networks' official files: how they are fetched, and how they become our weights."""
