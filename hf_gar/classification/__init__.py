"""What classifiers are for: tags of recordings, and events in them, for whole datasets."""
