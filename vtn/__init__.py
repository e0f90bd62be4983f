"""The reference VTN: the server side of `bulk-upload`, for the demo, the tests and users without a VTN of their own.

It implements every call of the VTN's interface on one SQLite file, and rejects what a VTN rejects; `standard` does so
for the calls of OpenADR 3 itself. It does not depend on the client that uploads to it.
"""
