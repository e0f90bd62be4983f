"""The two versions: what differs between them apart from the types of the bodies."""

from dataclasses import dataclass

import msgspec

from vtn.standard import models, models_3_0_1, models_3_1
from vtn.standard.clients import Role


@dataclass(frozen=True, slots=True)
class Bodies:
    """The decoders of the bodies that a client sends."""

    program: msgspec.json.Decoder[models.Program]
    event: msgspec.json.Decoder[models.Event]
    report: msgspec.json.Decoder[models.Report]
    ven: msgspec.json.Decoder[models.Ven]
    resource: msgspec.json.Decoder[models.Resource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of OpenADR.

    `wire` is its value of `VTN_WIRE`; `number` is unique and marks stores. `open_scopes` are those of which one is
    needed to read programs and events, `own_scopes` those for VENs, resources and reports. Where VENs have no client
    (`vens_have_clients`), one that an operator made is for every client.
    """

    name: str
    wire: str
    number: int
    bodies: Bodies
    resources_path: str
    open_scopes: tuple[str, ...]
    own_scopes: tuple[str, ...]
    scopes: dict[Role, frozenset[str]]
    has_targets_as_grants: bool
    vens_have_clients: bool
    tells_token_address: bool

    @property
    def base_path(self) -> str:
        """The path that all calls begin with."""
        return f"/openadr3/{self.name}"

    @property
    def token_path(self) -> str:
        """The path of the token server's one call."""
        return f"{self.base_path}/auth/token"


_BL = frozenset({"read_all", "write_programs", "write_events", "write_vens"})

VERSION_3_1 = Version(
    name="3.1.0",
    wire="openadr-3.1",
    number=310,
    bodies=Bodies(
        msgspec.json.Decoder(models_3_1.Program),
        msgspec.json.Decoder(models_3_1.Event),
        msgspec.json.Decoder(models_3_1.Report),
        msgspec.json.Decoder(models_3_1.VenRequest),
        msgspec.json.Decoder(models_3_1.ResourceRequest),
    ),
    resources_path="/resources",
    open_scopes=("read_targets", "read_all"),
    own_scopes=("read_ven_objects", "read_all"),
    scopes={"VEN": frozenset({"read_targets", "read_ven_objects", "write_reports", "write_vens"}), "BL": _BL},
    has_targets_as_grants=True,
    vens_have_clients=True,
    tells_token_address=True,
)
VERSION_3_0_1 = Version(
    name="3.0.1",
    wire="openadr-3.0.1",
    number=301,
    bodies=Bodies(
        msgspec.json.Decoder(models_3_0_1.Program),
        msgspec.json.Decoder(models_3_0_1.Event),
        msgspec.json.Decoder(models_3_0_1.Report),
        msgspec.json.Decoder(models_3_0_1.Ven),
        msgspec.json.Decoder(models_3_0_1.Resource),
    ),
    resources_path="/vens/{ven_id}/resources",
    open_scopes=("read_all",),
    own_scopes=("read_all",),
    scopes={"VEN": frozenset({"read_all", "write_reports", "write_vens"}), "BL": _BL},
    has_targets_as_grants=False,
    vens_have_clients=False,
    tells_token_address=False,
)
WIRES = {version.wire: version for version in (VERSION_3_1, VERSION_3_0_1)}
