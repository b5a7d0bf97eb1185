"""Every action that the audit log may tell of: one sorted enum, from which the table of the reference is made.

A denied attempt is told with the permission that was missing where a permission decided.
"""

from enum import StrEnum

from domain.access.permissions import EVERYTHING, Permission


class AuditAction(StrEnum):
    """``resource:verb``."""

    AUDIT_CHECKPOINT = "audit:checkpoint"
    AUDIT_ERASE = "audit:erase"
    AUDIT_EXPORT = "audit:export"
    BAN_CREATE = "ban:create"
    BAN_DELETE = "ban:delete"
    BINDING_CREATE = "binding:create"
    BINDING_DELETE = "binding:delete"
    CREDENTIAL_REFUSE = "credential:refuse"
    DELEGATION_CREATE = "delegation:create"
    DELEGATION_REVOKE = "delegation:revoke"
    EMAIL_CHANGE = "email:change"
    EMAIL_CONFIRM = "email:confirm"
    EMAIL_VERIFY = "email:verify"
    EXTERNAL_IDENTITY_LINK = "external_identity:link"
    EXTERNAL_IDENTITY_READ = "external_identity:read"
    EXTERNAL_IDENTITY_UNLINK = "external_identity:unlink"
    FACTORS_RESET = "factors:reset"
    GIT_FETCH = "git:fetch"
    GIT_PUSH = "git:push"
    IDENTITY_TOKEN_CREATE = "identity_token:create"  # noqa: S105  # an action
    MAIL_SEND = "mail:send"
    ORGANIZATION_CREATE = "organization:create"
    ORGANIZATION_DEACTIVATE = "organization:deactivate"
    ORGANIZATION_REACTIVATE = "organization:reactivate"
    ORGANIZATION_READ = "organization:read"
    ORGANIZATION_UPDATE = "organization:update"
    PASSKEY_CREATE = "passkey:create"
    PASSKEY_DELETE = "passkey:delete"
    PASSKEY_UPDATE = "passkey:update"
    PASSWORD_CHANGE = "password:change"  # noqa: S105  # an action
    PASSWORD_RESET = "password:reset"  # noqa: S105  # an action
    PIPELINE_CANCEL = "pipeline:cancel"
    PIPELINE_CREATE = "pipeline:create"
    PROJECT_CREATE = "project:create"
    PROJECT_DELETE = "project:delete"
    PROJECT_UPDATE = "project:update"
    PROOF_REQUIRED = "proof:required"
    RECOVERY_CODES_CREATE = "recovery_codes:create"
    RECOVERY_CODE_USE = "recovery_code:use"
    REQUEST_REFUSE = "request:refuse"
    ROLE_BIND = "role:bind"
    ROLE_CREATE = "role:create"
    ROLE_DELETE = "role:delete"
    ROLE_UNBIND = "role:unbind"
    ROLE_UPDATE = "role:update"
    SESSION_CREATE = "session:create"
    SESSION_DELETE = "session:delete"
    SESSION_ELEVATE = "session:elevate"
    SIGNING_KEY_CREATE = "signing_key:create"
    SIGNING_KEY_DELETE = "signing_key:delete"
    SIGNING_KEY_ROTATE = "signing_key:rotate"
    TEAM_ADD_MEMBER = "team:add-member"
    TEAM_CREATE = "team:create"
    TEAM_DELETE = "team:delete"
    TEAM_REMOVE_MEMBER = "team:remove-member"
    TEAM_UPDATE = "team:update"
    TOKEN_CREATE = "token:create"  # noqa: S105  # an action
    TOKEN_EXCHANGE = "token:exchange"  # noqa: S105  # an action
    TOKEN_REVOKE = "token:revoke"  # noqa: S105  # an action
    TOKEN_ROTATE = "token:rotate"  # noqa: S105  # an action
    TOTP_BEGIN = "totp:begin"
    TOTP_CREATE = "totp:create"
    TOTP_DELETE = "totp:delete"
    USER_CREATE = "user:create"
    USER_DEACTIVATE = "user:deactivate"
    USER_INVITE = "user:invite"
    USER_REACTIVATE = "user:reactivate"
    USER_UPDATE = "user:update"


DESCRIPTIONS: dict[AuditAction, str] = {
    AuditAction.AUDIT_CHECKPOINT: "A checkpoint of the audit log was asked for",
    AuditAction.AUDIT_ERASE: "A person's data in the audit log was made unreadable",
    AuditAction.AUDIT_EXPORT: "The audit log, or a project's part of it, was exported",
    AuditAction.BAN_CREATE: "Too many failed attempts led to a ban of a name or an address",
    AuditAction.BAN_DELETE: "A ban was lifted",
    AuditAction.BINDING_CREATE: "A role was given, everywhere or on a project",
    AuditAction.BINDING_DELETE: "A role was taken back",
    AuditAction.CREDENTIAL_REFUSE: "An API token that has ended was used; each is told once in ten minutes",
    AuditAction.DELEGATION_CREATE: "Rights were lent",
    AuditAction.DELEGATION_REVOKE: "Lent rights were taken back",
    AuditAction.EMAIL_CHANGE: "Another e-mail address was asked for",
    AuditAction.EMAIL_CONFIRM: "The link of a mail proved an e-mail address",
    AuditAction.EMAIL_VERIFY: "A link that proves an e-mail address was asked for",
    AuditAction.EXTERNAL_IDENTITY_LINK: "An account at an identity provider was linked",
    AuditAction.EXTERNAL_IDENTITY_READ: "Somebody was refused a look at another's accounts at identity providers",
    AuditAction.EXTERNAL_IDENTITY_UNLINK: "An account at an identity provider was unlinked",
    AuditAction.FACTORS_RESET: "Somebody's second factors were removed by an administrator",
    AuditAction.GIT_FETCH: "A repository was cloned or fetched",
    AuditAction.GIT_PUSH: "Something was pushed: every ref with old and new commit",
    AuditAction.IDENTITY_TOKEN_CREATE: "A signed token was made that tells another system who somebody is",
    AuditAction.MAIL_SEND: "A mail, with a link or a notice, was handed to the mail server",
    AuditAction.ORGANIZATION_CREATE: "An organisation was made",
    AuditAction.ORGANIZATION_DEACTIVATE: "An organisation was deactivated",
    AuditAction.ORGANIZATION_REACTIVATE: "An organisation was reactivated",
    AuditAction.ORGANIZATION_READ: "Somebody was refused a look at an organisation that they are not in",
    AuditAction.ORGANIZATION_UPDATE: "An organisation was changed",
    AuditAction.PASSKEY_CREATE: "A passkey was registered",
    AuditAction.PASSKEY_DELETE: "A passkey was removed",
    AuditAction.PASSKEY_UPDATE: "A passkey was renamed",
    AuditAction.PASSWORD_CHANGE: "A password was changed",
    AuditAction.PASSWORD_RESET: "A link to set a new password was asked for, or used",
    AuditAction.PIPELINE_CANCEL: "A run was told to stop",
    AuditAction.PIPELINE_CREATE: "A run was made",
    AuditAction.PROJECT_CREATE: "A project was made",
    AuditAction.PROJECT_DELETE: "A project was taken out of use",
    AuditAction.PROJECT_UPDATE: "A project was changed",
    AuditAction.PROOF_REQUIRED: "A dangerous action was refused until a newer proof of who asks",
    AuditAction.RECOVERY_CODES_CREATE: "New recovery codes were made",
    AuditAction.RECOVERY_CODE_USE: "A recovery code was used up",
    AuditAction.REQUEST_REFUSE: "A request was refused for another reason than a permission; `answer` says which",
    AuditAction.ROLE_BIND: "A role was given because of a group at an identity provider",
    AuditAction.ROLE_CREATE: "A role was made",
    AuditAction.ROLE_DELETE: "A role was removed",
    AuditAction.ROLE_UNBIND: "A role was taken because of a group at an identity provider",
    AuditAction.ROLE_UPDATE: "What a role bundles was changed",
    AuditAction.SESSION_CREATE: "Somebody signed in, or tried to",
    AuditAction.SESSION_DELETE: "A browser session was ended",
    AuditAction.SESSION_ELEVATE: "Somebody proved again who they are",
    AuditAction.SIGNING_KEY_CREATE: "A key for identity tokens was made",
    AuditAction.SIGNING_KEY_DELETE: "Keys for identity tokens that nothing needs any more were removed",
    AuditAction.SIGNING_KEY_ROTATE: "The key for identity tokens was exchanged",
    AuditAction.TEAM_ADD_MEMBER: "Somebody joined a team",
    AuditAction.TEAM_CREATE: "A team was made",
    AuditAction.TEAM_DELETE: "A team was removed",
    AuditAction.TEAM_REMOVE_MEMBER: "Somebody left a team",
    AuditAction.TEAM_UPDATE: "A team was changed",
    AuditAction.TOKEN_CREATE: "An API token was made",
    AuditAction.TOKEN_EXCHANGE: "A token was exchanged for a narrower one (RFC 8693)",
    AuditAction.TOKEN_REVOKE: "An API token was ended",
    AuditAction.TOKEN_ROTATE: "An API token was replaced by a new one",
    AuditAction.TOTP_BEGIN: "An authenticator app was about to be set up",
    AuditAction.TOTP_CREATE: "An authenticator app was set up",
    AuditAction.TOTP_DELETE: "An authenticator app was removed",
    AuditAction.USER_CREATE: "An identity was made",
    AuditAction.USER_DEACTIVATE: "An identity was deactivated, and everything that it had open ended",
    AuditAction.USER_INVITE: "A person was mailed a link to choose their first password",
    AuditAction.USER_REACTIVATE: "An identity was reactivated",
    AuditAction.USER_UPDATE: "An identity was changed",
}

Action = AuditAction | Permission
"""What an act may be called: an action, or the permission that a denied attempt lacked."""

ACTIONS: tuple[str, ...] = tuple(sorted({*AuditAction, *(one for one in Permission if one != EVERYTHING)}))
"""All of them."""
