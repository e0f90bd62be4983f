"""Flow control towards a VTN: concurrency and request size, retries, and the circuit breaker.

Shared by all threads of a process. Decisions follow the cause of an error (`venclient.errors`), never a status code.
"""
