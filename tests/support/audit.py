"""The keys of the audit log in tests: the same for every ``Database``, because several may serve one database."""

from adapters.signing.ed25519 import SigningKey
from database.store.audit_keys import AuditKeys

AUDIT_SECRET = b"a key for tests, of 32 bytes ..."
AUDIT_KEYS = AuditKeys(AUDIT_SECRET)
SIGNING_KEY = SigningKey(b"a seed for tests, of 32 bytes ..")
