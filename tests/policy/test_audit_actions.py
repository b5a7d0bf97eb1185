from domain.audit.actions import ACTIONS, DESCRIPTIONS, AuditAction
from tests.policy.audit_actions import PAGE, recorded_actions, rendered


def test_the_enum_is_sorted_and_every_action_described() -> None:
    names = [action.name for action in AuditAction]
    assert names == sorted(names)
    assert set(DESCRIPTIONS) == set(AuditAction)


def test_every_recorded_action_is_in_the_enum() -> None:
    found = list(recorded_actions())
    assert len(found) > 40
    unknown = [f"{where}: {action}" for where, action in found if action not in ACTIONS]
    assert not unknown, "add them to domain/audit/actions.py with a description"


def test_the_reference_has_every_action() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), "python -m tests.policy.audit_actions"
