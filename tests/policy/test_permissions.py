from domain.access.permissions import EVERYTHING, OWNER_PERMISSIONS, SYSTEM_ROLES, Permission
from tests.policy.permissions_page import PAGE, page


def test_the_reviewed_table_is_what_the_code_decides() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "Who may do what has changed. Run `python -m tests.policy.permissions_page`, look at the difference of "
        "docs/reference/permissions.md line by line, and commit it with the change."
    )


def test_permissions_are_sorted_and_well_formed() -> None:
    values = [str(permission) for permission in Permission]
    assert values == sorted(values)
    assert all(value.count(":") == 1 for value in values)


def test_everything_belongs_to_the_admin_role_alone() -> None:
    assert [role for role, held in SYSTEM_ROLES.items() if EVERYTHING in held] == ["admin"]
    assert EVERYTHING not in OWNER_PERMISSIONS
    assert SYSTEM_ROLES["agent"] == frozenset()
