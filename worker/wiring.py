"""From settings to the objects whose methods are activities. Nothing here asks a neighbour anything yet."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from temporalio.client import Client
from temporalio.converter import DataConverter

from activities.access.mails import MailActivities, MailPolicy
from activities.access.signing_keys import SigningKeyActivities
from activities.audit import AuditActivities
from activities.git import GitActivities
from activities.pipelines.artifacts import ArtifactCollector, ArtifactExpiry
from activities.pipelines.logs import LogPumps
from activities.pipelines.policy import StepPolicy
from activities.pipelines.runs import RunActivities
from activities.pipelines.steps import StepActivities
from adapters.bus.valkey import ValkeyBus
from adapters.channels.base import Mailer
from adapters.channels.outbox import FileOutbox, NoMailer
from adapters.keyring.secret_box import SecretBox
from adapters.keyring.signing import Keyring
from adapters.objects.s3 import S3Objects
from adapters.repositories.git_cli import GitRepositories
from adapters.sandbox.base import SandboxLimits
from adapters.sandbox.local.sandboxes import LocalSandboxes
from adapters.signing.ed25519 import SigningKey
from database.engine import Database
from database.store.audit_keys import AuditKeys
from settings.values import Settings
from temporal.codec import PayloadKeys
from temporal.converter import data_converter
from temporal.executions import Executions
from temporal.expiry import HistoryExpiry
from worker.registry import Activities


@dataclass(frozen=True)
class Neighbours:
    """What the activities work with.

    Attributes:
        converter: Encrypts payloads with the keys of the settings, keeps large ones in ``objects``.
        signing_key: Signs the checkpoints of the audit log.
        keyring: Makes the keys of identity tokens.
    """

    database: Database
    objects: S3Objects
    bus: ValkeyBus
    repositories: GitRepositories
    sandboxes: LocalSandboxes
    policy: StepPolicy
    mailer: Mailer
    mail_policy: MailPolicy
    converter: DataConverter
    signing_key: SigningKey
    keyring: Keyring

    def activities(self, client: Client) -> Activities:
        """The activities; ``client`` is asked about other workflows."""
        logs = LogPumps(self.database, self.objects, self.bus, self.sandboxes)
        return Activities(
            git=GitActivities(self.database, self.repositories, self.bus),
            mails=MailActivities(self.database, self.mailer, self.mail_policy),
            runs=RunActivities(
                database=self.database,
                repositories=self.repositories,
                sandboxes=self.sandboxes,
                bus=self.bus,
                logs=logs,
                expiry=ArtifactExpiry(self.database, self.objects, logs),
                workflows=Executions(client),
                histories=HistoryExpiry(client, self.objects),
            ),
            signing_keys=SigningKeyActivities(self.database, self.keyring),
            steps=StepActivities(
                database=self.database,
                sandboxes=self.sandboxes,
                bus=self.bus,
                logs=logs,
                artifacts=ArtifactCollector(self.database, self.objects),
                policy=self.policy,
            ),
            audit=AuditActivities(self.database, self.objects, self.signing_key),
        )


@asynccontextmanager
async def built_neighbours(settings: Settings) -> AsyncIterator[Neighbours]:
    """Builds them and closes them at the end.

    Raises:
        domain.errors.InvalidInput: A setting cannot be used; names it.
    """
    objects = S3Objects(**settings.objects.connection())
    keys = PayloadKeys(settings.temporal.revealed_keys(), settings.temporal.payload_key_id)
    # It tries out what the host can isolate, which takes a moment.
    sandboxes = await asyncio.to_thread(
        LocalSandboxes, settings.sandbox.root, allow_unisolated=settings.sandbox.allow_unisolated
    )
    bus = ValkeyBus(settings.bus.url.get_secret_value())
    database = Database(
        settings.database.url.get_secret_value(),
        pool_size=settings.database.pool_size,
        audit_keys=AuditKeys(settings.audit.secret()),
    )
    try:
        yield Neighbours(
            database=database,
            objects=objects,
            bus=bus,
            repositories=GitRepositories(
                settings.repositories.root,
                object_size_bytes_max=settings.repositories.object_size_bytes_max,
                push_size_bytes_max=settings.repositories.push_size_bytes_max,
            ),
            sandboxes=sandboxes,
            policy=_policy(settings),
            mailer=NoMailer() if settings.mail.outbox is None else FileOutbox(settings.mail.outbox),
            mail_policy=_mail_policy(settings),
            converter=data_converter(keys, objects),
            signing_key=SigningKey(settings.audit.signing_seed()),
            keyring=_keyring(settings),
        )
    finally:
        await bus.close()
        await database.close()
        # Last: it waits for a request that is under way.
        await objects.close()


def _mail_policy(settings: Settings) -> MailPolicy:
    return MailPolicy(
        public_url=settings.api.public_url.rstrip("/"),
        sender=settings.mail.sender,
        secret_keys=_secret_keys(settings),
    )


def _secret_keys(settings: Settings) -> tuple[bytes, ...]:
    """The installation's, and then those of before."""
    keys = (settings.api.secret_key, *settings.api.retired_secret_keys)
    return tuple(base64.b64decode(key.get_secret_value()) for key in keys)


def _keyring(settings: Settings) -> Keyring:
    present, *retired = _secret_keys(settings)
    return Keyring(SecretBox(present, retired))


def _policy(settings: Settings) -> StepPolicy:
    limits = SandboxLimits(
        memory_bytes=settings.sandbox.memory_bytes,
        processes=settings.sandbox.processes,
        cpu_seconds=settings.sandbox.cpu_seconds,
        file_size_bytes=settings.sandbox.file_size_bytes,
        log_size_bytes=settings.sandbox.log_size_bytes,
    )
    return StepPolicy(
        limits=limits,
        network_projects=frozenset(settings.sandbox.network_projects),
        public_url=settings.api.public_url.rstrip("/"),
    )
