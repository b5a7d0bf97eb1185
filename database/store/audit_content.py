"""From an act to the canonical text that the log keeps of it, and back to what a reader may see.

Personal fields become ``{"of": <person>, "sealed": <base64>}`` (an e-mail or IP address also carries ``hash``, a keyed
hash for equality), secrets become ``{"hmac": <hex>}``. See docs/reference/audit.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID, uuid4

from database.store.audit_keys import AuditKeys, People
from domain.actors import Actor
from domain.audit.actions import Action
from domain.audit.canonical import Json, canonical, plain
from domain.audit.fields import ADDRESS_FIELDS, EMAIL_FIELDS, Treatment, treatment

NOBODY = UUID(int=0)
_NAMES = ("name", "ip", "user_agent")


@dataclass(frozen=True, slots=True)
class Entry:
    """One act, as the caller told it.

    Attributes:
        person_id: Whose the personal fields of ``detail``, ``before`` and ``after`` are.
    """

    actor: Actor
    action: Action
    resource: str
    resource_id: UUID | None
    project_id: UUID | None
    outcome: str
    person_id: UUID
    detail: Mapping[str, object] | None = None
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    trace_id: str | None = None
    id: UUID = field(default_factory=uuid4)

    @property
    def people(self) -> set[UUID]:
        """Whose keys the content needs."""
        found = set() if self._is_platform else {self.actor.user_id}
        if any(_has_personal(part, self.resource) for part in (self.detail, self.before, self.after)):
            found.add(self.person_id)
        return found

    @property
    def _is_platform(self) -> bool:
        origin = self.actor.origin
        return self.actor.kind == "system" and origin.ip is None and origin.user_agent is None

    def actor_shown(self, people: People) -> dict[str, Json]:
        """The actor: id and kind in clear, name, address and user agent encrypted."""
        shown: dict[str, Json] = {"id": str(self.actor.user_id), "kind": self.actor.kind}
        if self._is_platform:
            return shown
        key = people[self.actor.user_id]
        if key is not None:
            origin = self.actor.origin
            values = zip(_NAMES, (self.actor.name, origin.ip, origin.user_agent), strict=True)
            facts = canonical({name: plain(value) for name, value in values if value is not None})
            shown["sealed"] = key.seal(facts, bound_to=self.id)
        return shown


def _has_personal(part: Any, resource: str) -> bool:  # noqa: ANN401  # whatever a detail nests
    if isinstance(part, Mapping):
        return any(
            treatment(str(name), resource) is Treatment.PERSONAL or _has_personal(value, resource)
            for name, value in part.items()
        )
    return isinstance(part, list | tuple) and any(_has_personal(one, resource) for one in part)


def content_of(entry: Entry, keys: AuditKeys, people: People) -> str:
    """The canonical text of the act; what there is nothing of is left out."""
    actor = entry.actor
    target = {"id": None if entry.resource_id is None else str(entry.resource_id), "kind": entry.resource}
    erased = actor.user_id in people and people[actor.user_id] is None
    facts: dict[str, Json] = {
        "action": str(entry.action),
        "actor": entry.actor_shown(people),
        "address": keys.address_hash(actor.origin.ip) if actor.origin.ip and not erased else None,
        "after": _treated(entry.after, entry, keys, people),
        "before": _treated(entry.before, entry, keys, people),
        "chain": cast("Json", [str(one) for one in actor.on_behalf_of]) if actor.on_behalf_of else None,
        "detail": _treated(entry.detail, entry, keys, people),
        "id": str(entry.id),
        "outcome": entry.outcome,
        "project": _text(entry.project_id),
        "request": plain(actor.origin.request_id),
        "session": _text(actor.session_id),
        "target": cast("Json", {name: value for name, value in target.items() if value is not None}),
        "token": _text(actor.token_id),
        "trace": entry.trace_id or actor.origin.trace_id,
    }
    return canonical({name: value for name, value in facts.items() if value is not None})


def _text(one: UUID | None) -> str | None:
    return None if one is None else str(one)


def _treated(part: Any, entry: Entry, keys: AuditKeys, people: People) -> Json:  # noqa: ANN401  # whatever a detail nests
    if isinstance(part, Mapping):
        return {
            str(plain(str(name))): _treated_field(str(name), value, entry, keys, people) for name, value in part.items()
        }
    if isinstance(part, list | tuple):
        return [_treated(one, entry, keys, people) for one in part]
    return plain(part)


def _treated_field(name: str, value: object, entry: Entry, keys: AuditKeys, people: People) -> Json:
    how = Treatment.PLAIN if value is None else treatment(name, entry.resource)
    if how is Treatment.PLAIN:
        return _treated(value, entry, keys, people)
    # project:update says {"description": {"before": ..., "after": ...}}: the two sides are treated like the field.
    if isinstance(value, Mapping) and set(value) <= {"before", "after"}:
        return {side: _treated_field(name, one, entry, keys, people) for side, one in value.items()}
    shown = canonical(plain(value))
    if how is Treatment.SECRET:
        return {"hmac": keys.secret_hash(shown)}
    key = people[entry.person_id]
    if key is None:
        return {"erased": True, "of": str(entry.person_id)}
    sealed: dict[str, Json] = {"of": str(entry.person_id), "sealed": key.seal(shown, bound_to=entry.id)}
    if name.lower() in EMAIL_FIELDS:
        sealed["hash"] = keys.email_hash(str(value))
    elif name.lower() in ADDRESS_FIELDS:
        sealed["hash"] = keys.address_hash(str(value))
    return sealed


def people_in(act: Mapping[str, Any]) -> set[UUID]:
    """Whose keys are needed to read an act."""
    found = {UUID(act["actor"]["id"])} if "sealed" in act["actor"] else set()
    for part in (act.get("detail"), act.get("before"), act.get("after")):
        found |= _people_in(part)
    return found


def _people_in(part: Any) -> set[UUID]:  # noqa: ANN401  # whatever a detail nests
    if isinstance(part, dict):
        if _is_sealed(part):
            return {UUID(part["of"])}
        return set().union(*(_people_in(one) for one in part.values()))
    return set().union(*(_people_in(one) for one in part)) if isinstance(part, list) else set()


def _is_sealed(part: dict[str, Any]) -> bool:
    if not {"of", "sealed"} <= set(part) <= {"of", "sealed", "hash"} or not isinstance(part["of"], str):
        return False
    try:
        UUID(part["of"])
    except ValueError:
        return False
    return isinstance(part["sealed"], str)


ERASED = "(erased)"
"""What a reader sees where a person was erased."""


def opened_actor(act: Mapping[str, Any], people: People) -> dict[str, str | None]:
    """Name, address and user agent of who acted, as far as they are not erased."""
    actor = act["actor"]
    if actor["kind"] == "system" and "sealed" not in actor:
        return {"name": "system", "ip": None, "user_agent": None}
    key = people.get(UUID(actor["id"]))
    facts = key.open(actor["sealed"], bound_to=UUID(act["id"])) if key and "sealed" in actor else None
    known: dict[str, str] = json.loads(facts) if facts else {"name": ERASED}
    return {name: known.get(name) for name in _NAMES}


def opened(part: Any, act_id: UUID, people: People) -> Any:  # noqa: ANN401  # whatever a detail nests
    """A detail, before or after with its personal fields in clear, as far as they are not erased."""
    if isinstance(part, list):
        return [opened(one, act_id, people) for one in part]
    if not isinstance(part, dict):
        return part
    if _is_sealed(part):
        key = people.get(UUID(part["of"]))
        text = key.open(part["sealed"], bound_to=act_id) if key else None
        return ERASED if text is None else json.loads(text)
    if set(part) == {"erased", "of"}:
        return ERASED
    return {name: opened(value, act_id, people) for name, value in part.items()}
