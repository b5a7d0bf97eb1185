"""The keys of the audit log in tests: the same for every ``Database``, because several may serve one database."""

from database.store.audit_keys import AuditKeys

AUDIT_KEYS = AuditKeys(b"a key for tests, of 32 bytes ...")
