"""The reference VTN as a standard OpenADR 3 VTN: the published calls of versions 3.1.0 and 3.0.1.

Programs, events, VENs, resources and reports on one SQLite file. It refuses what the published text of its version
refuses, by models of its own, and takes on the habits of known servers where a test switches them on (`habits`).
"""
