"""The settings. They are read and validated once, then frozen."""
