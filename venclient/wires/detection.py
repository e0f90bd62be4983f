"""Finding out what a VTN speaks, from the calls that it has."""

from collections.abc import Callable

from venclient.errors import ConfigurationError, TransientError

BULK_CALL = "/report_data/bulk"
PROGRAMS = "/programs?skip=0&limit=1"
NO_RESOURCE = "/resources?external_resource_id=-"  # an empty list, of a VTN with the bulk endpoint
RESOURCES = "/resources?skip=0&limit=1"  # in 3.0.1, resources are below their vens
ABSENT = frozenset({404, 501})
# Of a call that only takes POST.
PRESENT = frozenset({200, 400, 405, 415, 422})


def detected_wire(status_of: Callable[[str], int]) -> str | None:
    """Return the name of the wire, as `VTN_WIRE` has it; None if it is none that is known.

    `status_of`: GETs a path below the base address, and returns the status. Raises `ConfigurationError` if the VTN
    refuses the token, and `TransientError` if it is in trouble.
    """
    if status_of(BULK_CALL) in PRESENT:
        return "bulk"
    programs = status_of(PROGRAMS)
    if programs in ABSENT:  # some servers answer 404 to a GET of a call that only takes POST
        return "bulk" if status_of(NO_RESOURCE) in (200, 204) else None
    if programs == 403:
        raise ConfigurationError("The VTN refuses the token: GET /programs is answered 403").advised("token refused")
    if programs >= 500:
        raise TransientError(f"GET /programs is answered {programs}", programs)
    if programs != 200:
        return None
    return "openadr-3.0.1" if status_of(RESOURCES) in ABSENT else "openadr-3.1"
