import pytest

from tests.support.unaudited import tables_changed_by


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("SELECT 1 FROM users WHERE id = $1 FOR UPDATE", set()),
        ("SELECT u.id FROM users u FOR UPDATE OF u", set()),
        ("INSERT INTO roles (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET name = 'x'", {"roles"}),
        ("WITH gone AS (DELETE FROM teams WHERE true RETURNING 1) UPDATE users u SET name = 'x'", {"teams", "users"}),
        ("\n  update only projects SET name = 'x'", {"projects"}),
        ("UPDATE totp_factors SET last_step = 1", set()),
        ("UPDATE totp_factors SET confirmed_at = now(), last_step = 1", {"totp_factors"}),
        ("UPDATE users SET password_hash = $1::VARCHAR WHERE id = $2::UUID AND password_hash = $3", set()),
        ("UPDATE users SET password_hash = $1::VARCHAR, updated_at = now() WHERE id = $2::UUID", {"users"}),
    ],
)
def test_what_a_statement_changes_is_seen(statement: str, tables: set[str]) -> None:
    assert tables_changed_by(statement) == tables
