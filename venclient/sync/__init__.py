"""Synchronisation of loads with a VTN: planning, registration, upload and verification.

Built on the `Source` and `Wire` protocols and the ledger, without HTTP, HDF5, SQL, Prefect or the command line.
"""
