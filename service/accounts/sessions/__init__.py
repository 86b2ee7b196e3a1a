"""Sessions, their tokens, and the cache that authenticates requests without SQL."""
