"""Maps of embeddings: a picture, a page that plays the recordings, and places of recordings on it."""
