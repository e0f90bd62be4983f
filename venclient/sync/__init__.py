"""What is pending of a load, and how it gets to the VTN and into the ledger: planning, upload, verification.

It knows a `Source`, a `Wire` and the ledger, and none of HTTP, HDF5, SQL, Prefect or the command line.
"""
