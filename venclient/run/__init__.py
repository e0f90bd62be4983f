"""A run in one process: worker threads, progress, and early stopping.

The flows, the commands and `VENManager` are all built on `engine.Run`.
"""
