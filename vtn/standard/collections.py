"""Programs, events, reports, VENs and resources: who sees which, and what each has to be apart from its form."""

from dataclasses import replace

import msgspec
from fastapi import HTTPException
from starlette.responses import Response

from vtn.standard import answers, models
from vtn.standard.clients import Caller
from vtn.standard.collection import BodyT, Collection, Sent, Vtn
from vtn.standard.filters import Filters
from vtn.standard.models import Fields
from vtn.standard.queries import Query
from vtn.standard.store import Draft, Stored

_TARGETS = ("targets", "targetType", "targetValues")


class Programs(Collection[models.Program]):
    """Programs are made by BL; their names are unique."""

    type = "PROGRAM"
    write_scope = "write_programs"
    queries = _TARGETS

    def visible(self, caller: Caller, _path: dict[str, str]) -> Filters:
        """All; in version 3.1, a VEN sees those without targets, and those that share one with it."""
        return _open_to(caller, self.vtn)

    def draft(self, sent: Sent[models.Program]) -> Draft:
        """Raises 409 for a name that is taken."""
        name = sent.body.program_name
        self.require_free(name, Filters(), sent.old)
        return Draft(content=sent.content, client_id=sent.caller.client_id, name=name, targets=sent.targets)


class Events(Collection[models.Event]):
    """Events are made by BL, and are of a program."""

    type = "EVENT"
    write_scope = "write_events"
    queries = ("programID", *_TARGETS)

    def visible(self, caller: Caller, _path: dict[str, str]) -> Filters:
        """As of programs."""
        return _open_to(caller, self.vtn)

    def draft(self, sent: Sent[models.Event]) -> Draft:
        """Raises 400 for an unknown program."""
        program_id = sent.body.program_id
        if self.vtn.store.get("PROGRAM", program_id, Filters()) is None:
            raise HTTPException(400, f"There is no PROGRAM {program_id!r}")
        return Draft(
            content=sent.content,
            client_id=sent.caller.client_id,
            name=sent.body.event_name,
            program_id=program_id,
            targets=sent.targets,
        )


class Reports(Collection[models.Report]):
    """Reports are made by VENs, about an event. They stay where their event is deleted."""

    type = "REPORT"
    write_scope = "write_reports"
    queries = ("programID", "eventID", "clientName")

    def visible(self, caller: Caller, _path: dict[str, str]) -> Filters:
        """A VEN's own, BL's all."""
        return Filters(owners=(caller.client_id,)) if caller.is_only_ven else Filters()

    def matching(self, visible: Filters, query: Query) -> Filters:
        """With the habit of servers that take a part of a name."""
        filters = super().matching(visible, query)
        if "client_name_pattern" in self.vtn.habits:
            return replace(filters, client_name=None, client_name_part=filters.client_name)
        return filters

    def may_delete(self, caller: Caller) -> None:
        """Raise 403 for BL, or for VENs where that is a habit."""
        caller.require("write_programs" if "delete_refused" in self.vtn.habits else self.write_scope)

    def missing(self) -> Response:
        """404, or an empty list where that is a habit."""
        return answers.json(200, b"[]") if "missing_is_empty_200" in self.vtn.habits else super().missing()

    def draft(self, sent: Sent[models.Report]) -> Draft:
        """Raises 400 for an unknown event, and for a program that is not the event's."""
        report, habits = sent.body, self.vtn.habits
        event = self.vtn.store.get("EVENT", report.event_id, _open_to(sent.caller, self.vtn))
        if event is None:
            raise HTTPException(409 if "unknown_event_409" in habits else 400, f"There is no EVENT {report.event_id!r}")
        if report.said_program() not in (None, event.program_id):
            raise HTTPException(400, f"EVENT {report.event_id!r} is not of PROGRAM {report.said_program()!r}")
        if sent.old and "put_keeps_descriptors" in habits:
            if event.program_id != sent.old.program_id:
                raise HTTPException(400, "A report stays with its program")
            sent = replace(sent, fields=_merged(sent.old, sent.fields))
        name: str | None = msgspec.json.decode(sent.fields.get("reportName", b"null"))
        if name is not None and "unique_report_names" in habits:
            self.require_free(name, Filters(), sent.old)
        return Draft(
            content=sent.content,
            client_id=sent.old.client_id if sent.old else sent.caller.client_id,
            name=name,
            program_id=event.program_id,
            event_id=report.event_id,
            client_name=report.client_name,
        )


class Vens(Collection[models.Ven]):
    """VENs are made by themselves, or by BL for a client; their names are unique."""

    type = "VEN"
    write_scope = "write_vens"
    queries = ("venName", *_TARGETS)
    not_kept = Collection.not_kept | {"resources"}

    def visible(self, caller: Caller, _path: dict[str, str]) -> Filters:
        """A VEN's own and those of no client, BL's all."""
        return _own(caller)

    def draft(self, sent: Sent[models.Ven]) -> Draft:
        """Raises 400 for the wrong form, 403 for a VEN where that is a habit, 409 for a name that is taken."""
        habits, name = self.vtn.habits, sent.body.ven_name
        if "vens_by_bl_only" in habits and sent.caller.is_only_ven and sent.old is None:
            raise HTTPException(403, "VENs are made by the operator")
        _require_form(sent.caller, sent.body.named_client(), self.vtn)
        self.require_free(name, Filters(), sent.old)
        if sent.old:
            owner = sent.body.named_client() or sent.old.client_id
        else:
            owner = sent.body.named_client() or (sent.caller.client_id if "VEN" in sent.caller.roles else "")
        if owner and "one_ven_a_client" in habits and self.vtn.store.has("VEN", Filters(owners=(owner,)), sent.old):
            raise HTTPException(409, f"Client {owner!r} has a VEN already")
        sent = _with_grants(sent)
        return Draft(content=sent.content, client_id=owner, name=name, targets=sent.targets)


class Resources(Collection[models.Resource]):
    """Resources are of a VEN, in which their names are unique."""

    type = "RESOURCE"
    write_scope = "write_vens"
    queries = ("resourceName", "venID", *_TARGETS)
    not_kept = Collection.not_kept | {"venID"}

    def visible(self, caller: Caller, path: dict[str, str]) -> Filters:
        """As of VENs; of one VEN where the address names it. Raises 404 if there is no such VEN."""
        if "ven_id" in path:
            self._require_ven(path["ven_id"], caller)
        return replace(_own(caller), ven_id=path.get("ven_id"))

    def draft(self, sent: Sent[models.Resource]) -> Draft:
        """Raises 400 for the wrong form, 404 for an unknown VEN, 409 for a name that is taken."""
        name, named_client = sent.body.resource_name, sent.body.named_client()
        _require_form(sent.caller, named_client, self.vtn)
        ven = self._require_ven(sent.body.named_ven() or sent.path["ven_id"], sent.caller)
        self.require_free(name, Filters(ven_id=ven.id), sent.old)
        sent = _with_grants(sent)
        return Draft(
            content=sent.content,
            client_id=named_client or ven.client_id,
            name=name,
            ven_id=ven.id,
            targets=sent.targets,
        )

    def _require_ven(self, ven_id: str, caller: Caller) -> Stored:
        ven = self.vtn.store.get("VEN", ven_id, _own(caller))
        if ven is None:
            raise HTTPException(404, f"There is no VEN {ven_id!r}")
        return ven


def _open_to(caller: Caller, vtn: Vtn) -> Filters:
    return Filters(open_to=caller.client_id) if caller.is_only_ven and vtn.version.has_targets_as_grants else Filters()


def _own(caller: Caller) -> Filters:
    return Filters(owners=(caller.client_id, "")) if caller.is_only_ven else Filters()


def _require_form(caller: Caller, named_client: str | None, vtn: Vtn) -> None:
    """Raise 400 for a form of version 3.1 that is not the caller's; a form that names a client is BL's."""
    if named_client is not None and "BL" not in caller.roles:
        raise HTTPException(400, "BL_VEN_REQUEST and BL_RESOURCE_REQUEST are for BL: send that of a VEN")
    if named_client is None and vtn.version.vens_have_clients and "VEN" not in caller.roles:
        raise HTTPException(400, "VEN_VEN_REQUEST and VEN_RESOURCE_REQUEST are for VENs: send that of BL")


def _with_grants(sent: Sent[BodyT]) -> Sent[BodyT]:
    """With the targets that BL gave the object, where the form has none: a VEN that replaces it does not lose them."""
    if sent.old is None or sent.old.targets is None or "targets" in sent.body.__struct_encode_fields__:
        return sent
    return replace(sent, fields={**sent.fields, "targets": msgspec.Raw(sent.old.targets.encode())})


def _merged(old: Stored, fields: Fields) -> Fields:
    """What a PUT leaves on a server that takes only what is neither absent nor null, and never descriptors."""
    kept = msgspec.json.decode(old.content, type=Fields)
    taken = {name for name, value in fields.items() if bytes(value) != b"null"} - {"payloadDescriptors"}
    return kept | {name: fields[name] for name in taken}
