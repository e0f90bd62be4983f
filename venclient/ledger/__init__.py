"""What the VTN has acknowledged, in a database of ours: marks by month, and who may write them.

`ledger.Ledger` is all that others use; its tables, migrations and leases are behind it.
"""
