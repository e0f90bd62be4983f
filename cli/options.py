"""Options that several commands share, and what stands behind them in the environment."""

from pathlib import Path
from typing import Annotated

import typer

Vens = Annotated[list[str] | None, typer.Option("--ven", help="A VEN by its name; repeat it for more. Default: all.")]
Db = Annotated[
    str | None,
    typer.Option("--db", help="Resources database: a path or an SQLAlchemy URL. [env: BULK_UPLOAD_RESOURCES_DB]"),
]
H5 = Annotated[Path | None, typer.Option("--h5", help="Meter file (HDF5). [env: BULK_UPLOAD_METER_FILE]")]
LedgerUrl = Annotated[
    str | None, typer.Option("--ledger", help="Ledger: a path or an SQLAlchemy URL. [env: BULK_UPLOAD_LEDGER_URL]")
]
VtnUrl = Annotated[
    str | None,
    typer.Option("--vtn-url", help="Base address, as http://127.0.0.1:8444/openadr3. [env: VTN_SERVER_ADDRESS]"),
]
Token = Annotated[
    str | None, typer.Option("--token", help="A bearer token, in place of the OAuth client. [env: VTN_BEARER_TOKEN]")
]
ChunkSize = Annotated[
    int | None,
    typer.Option("--chunk-size", help="Points a request. [env: BULK_UPLOAD_CHUNK_SIZE]", min=1, max=50_000),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of standard output.")]
