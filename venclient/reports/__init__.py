"""What people look at: the check of a meter file, the status of an upload, and the report of a verification.

Nothing here changes a ledger or a VTN. Each report is imported from its own module: `status` needs no numpy, and
`check` no SQL.
"""
