"""One run in one process: worker threads, what they count, and what stops them before the end.

The flows, the commands and `VENManager` are all built on `engine.Run`.
"""
