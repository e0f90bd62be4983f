"""The reference VTN: the server side of `bulk-upload`, for those who have none, for the demo and for the tests.

It answers every call of the VTN's interface over one SQLite file, and refuses what a VTN refuses. It knows nothing of
the client that uploads to it.
"""
