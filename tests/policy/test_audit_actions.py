import ast
from typing import get_type_hints

from database.store.audit import record
from database.store.audit_content import Entry
from domain.access.permissions import Permission
from domain.audit.actions import DESCRIPTIONS, AuditAction
from tests.policy.audit_actions import PAGE, recorded_actions, rendered, used_members, writers


def test_the_enum_is_sorted_and_every_action_described() -> None:
    names = [action.name for action in AuditAction]
    assert names == sorted(names)
    assert set(DESCRIPTIONS) == set(AuditAction)


def test_only_members_of_the_enums_are_recorded() -> None:
    """The type checker sees to it that what is handed on by a name is a member; here, that nothing goes around it."""
    assert get_type_hints(record)["action"] == AuditAction | Permission
    assert get_type_hints(Entry)["action"] == AuditAction | Permission
    found = list(recorded_actions())
    assert len(found) > 60
    wrong = [
        f"{where}: {ast.unparse(action)}" for where, action in found if not isinstance(action, ast.Attribute | ast.Name)
    ]
    assert not wrong, "record a member of AuditAction (domain/audit/actions.py), with a description"
    assert writers() == {"database/store/audit.py"}


def test_every_action_of_the_enum_is_recorded_somewhere() -> None:
    assert {action.name for action in AuditAction} - used_members() == set(), "the reference would promise too much"


def test_the_reference_has_every_action() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), "python -m tests.policy.audit_actions"
