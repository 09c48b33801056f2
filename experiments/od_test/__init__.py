"""Does the default monitor win? Every triple of source, validation and test set, every method."""
