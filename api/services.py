"""What the routes work with: built once by ``api/main.py`` and handed on through ``api/dependencies.py``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from urllib.parse import urlsplit

from temporalio.client import Client

from adapters.bus.base import Bus
from adapters.identity_providers.base import IdentityProvider
from adapters.identity_providers.issuers import TokenIssuers
from adapters.keyring.secret_box import SecretBox
from adapters.keyring.signing import Keyring
from adapters.objects.base import Objects
from adapters.repositories.base import Repositories
from adapters.signing.ed25519 import PublicKey
from api.credential_uses import EndedUses, SessionUses, TokenUses
from api.metrics import Metrics
from api.passwords import Passwords
from api.rights import RightsWatch
from api.throttle import RateLimits
from database.engine import Database
from database.store.access.cache import Rights
from domain.access.bans import BanPolicy


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may bring.

    Attributes:
        body_size_bytes_max: Of JSON and form bodies; git's are bounded by the two below.
        object_size_bytes_max: Of one object in a push.
        push_size_bytes_max: Of the pack of a push.
    """

    body_size_bytes_max: int = 1024**2
    object_size_bytes_max: int = 100 * 1024**2
    push_size_bytes_max: int = 4 * 1024**3


@dataclass(frozen=True)
class Services:
    """Neighbours and facts of this installation.

    Attributes:
        temporal: Connects when first used, so that the API starts with Temporal away (promise D4). Its
            ``data_converter.payload_codec`` is the one that the codec endpoint uses.
        public_url: Where users reach this API, without a slash at the end.
        temporal_ui_url: Where the Temporal UI is, without a slash at the end; empty if there is none.
        namespace: The Temporal namespace.
        rate_limits: How often one may ask; ``None`` for as often as one likes.
        secret_key: 32 bytes that sign cursors and CSRF tokens, and hash the names that bans are for.
        audit_key: What the checkpoints of the audit log are checked with.
        session_lifetime: After which a browser session ends whatever happens.
        session_idle: After which it ends when nobody uses it.
        proof_lifetime: How old the last proof of a session's user may be for a dangerous action (``api/proof.py``).
        tokens_without_proof: Whether API tokens, which can prove nothing, may do such actions all the same.
        exchange_lifetime_max: Tokens of a token exchange live no longer.
        retired_secret_keys: Secret keys of before, to open what they sealed.
        identity_providers: Those that people may sign in with, by their names in addresses.
        token_issuers: Those whose signed tokens the API accepts.
    """

    database: Database
    objects: Objects
    bus: Bus
    repositories: Repositories
    temporal: Client
    public_url: str
    temporal_ui_url: str
    namespace: str
    secret_key: bytes
    audit_key: PublicKey
    limits: Limits = Limits()
    session_lifetime: timedelta = timedelta(days=14)
    session_idle: timedelta = timedelta(days=3)
    proof_lifetime: timedelta = timedelta(minutes=15)
    tokens_without_proof: bool = False
    exchange_lifetime_max: timedelta = timedelta(hours=1)
    retired_secret_keys: tuple[bytes, ...] = ()
    passwords: Passwords = field(default_factory=Passwords)
    bans: BanPolicy = field(default_factory=BanPolicy)
    rate_limits: RateLimits | None = None
    rights: Rights = field(default_factory=Rights)
    token_uses: TokenUses = field(default_factory=TokenUses)
    ended_uses: EndedUses = field(default_factory=EndedUses)
    metrics: Metrics = field(default_factory=Metrics)
    identity_providers: Mapping[str, IdentityProvider] = field(default_factory=dict)
    token_issuers: TokenIssuers = field(default_factory=TokenIssuers)

    @cached_property
    def session_uses(self) -> SessionUses:
        """When each browser session was last used."""
        return SessionUses(lifetime=self.session_lifetime, idle=self.session_idle)

    @cached_property
    def secret_box(self) -> SecretBox:
        """Seals secrets that a table keeps."""
        return SecretBox(self.secret_key, self.retired_secret_keys)

    @cached_property
    def keyring(self) -> Keyring:
        """Makes our signing keys and signs with them."""
        return Keyring(self.secret_box)

    @cached_property
    def rights_watch(self) -> RightsWatch:
        """Wakes answers that stay open when somebody's rights have changed."""
        return RightsWatch(self.database, self.bus)

    @cached_property
    def secure_cookies(self) -> bool:
        """Whether cookies travel over TLS only: everywhere but on the loopback interface without TLS."""
        url = urlsplit(self.public_url)
        return url.scheme == "https" or url.hostname not in ("127.0.0.1", "localhost", "::1")

    def workflow_url(self, workflow_id: str) -> str | None:
        """The page of a workflow in the Temporal UI; ``None`` if there is no UI."""
        if not self.temporal_ui_url:
            return None
        return f"{self.temporal_ui_url}/namespaces/{self.namespace}/workflows/{workflow_id.replace('/', '%2F')}"
