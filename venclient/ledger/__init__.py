"""The ledger: what each VTN has acknowledged, as marks by month, and which run may write for a VEN.

All writes go through `ledger.Ledger`; tables, migrations and leases are its implementation.
"""
