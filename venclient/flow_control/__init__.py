"""How much is sent to a VTN at a time, when it is tried again, and when everybody waits.

By the cause of an error, never by a status code; for all threads of a process together.
"""
