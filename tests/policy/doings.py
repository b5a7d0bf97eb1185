"""What every unsafe route does when it is let, and what the audit log says of it: the table behind the sweep.

A new unsafe route fails the sweep until it stands here, or in ``ELSEWHERE`` with the test that makes it succeed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.audit.actions import AuditAction as A
from tests.support.factories import PASSWORD

NEW_PASSWORD = "three swept camels drink"


@dataclass(frozen=True)
class Doing:
    """How a route succeeds.

    Attributes:
        action: What the row says that was done; ``None`` where there is nothing to tell of.
        things: What has to be there first (``tests.policy.town``); what they are called fills path, body and form.
        body: JSON, instead of what ``tests.policy.routes`` sends. ``{name}`` is filled in texts.
        form: A form.
        by_token: With an API token instead of a browser session.
        why: Where ``action`` is ``None``: why there is nothing to tell of.
    """

    action: A | None
    things: tuple[str, ...] = ()
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    by_token: bool = False
    why: str = field(default="", kw_only=True)


_PERSON, _ROLE, _TEAM = ("person",), ("role",), ("team",)
_ORG = "/api/v1/organizations/{organization}"
_RUNS = "/api/v1/projects/{owner}/{name}/pipelines"
_SAME = {"password": NEW_PASSWORD, "again": NEW_PASSWORD}
_HOLDER = {"role": "viewer", "holder": "{person}"}

DOINGS: dict[str, Doing] = {
    "POST /api/v1/sessions": Doing(A.SESSION_CREATE, body={"name": "{admin}", "password": PASSWORD}),
    "DELETE /api/v1/sessions/current": Doing(A.SESSION_DELETE),
    "DELETE /api/v1/sessions": Doing(A.SESSION_DELETE, ("session",)),
    "DELETE /api/v1/sessions/{session_id}": Doing(A.SESSION_DELETE, ("session",)),
    "DELETE /api/v1/users/{name}/sessions": Doing(A.SESSION_DELETE, ("person", "their session")),
    "POST /api/v1/sessions/current/proof": Doing(A.SESSION_ELEVATE, body={"password": PASSWORD}),
    "POST /me/proof": Doing(A.SESSION_ELEVATE, form={"proof_password": PASSWORD, "proof_shown": "1"}),
    "POST /me/sessions/{session_id}/end": Doing(A.SESSION_DELETE, ("session",)),
    "POST /me/sessions/end-others": Doing(A.SESSION_DELETE, ("session",)),
    "POST /logout": Doing(A.SESSION_DELETE),
    "POST /api/v1/tokens": Doing(A.TOKEN_CREATE),
    "DELETE /api/v1/tokens/{token_id}": Doing(A.TOKEN_REVOKE, ("token",)),
    "POST /api/v1/tokens/{token_id}/rotation": Doing(A.TOKEN_ROTATE, ("token",)),
    "POST /api/v1/users/{name}/tokens": Doing(A.TOKEN_CREATE, ("agent",)),
    "POST /me/tokens": Doing(A.TOKEN_CREATE),
    "POST /me/tokens/{token_id}/revoke": Doing(A.TOKEN_REVOKE, ("token",)),
    "POST /api/v1/oauth/token": Doing(
        A.TOKEN_EXCHANGE,
        ("token",),
        form={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": "{token}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "scope": "project:read",
        },
    ),
    "POST /api/v1/delegations": Doing(
        A.DELEGATION_CREATE, _PERSON, body={"to": "{person}", "permissions": ["project:read"]}
    ),
    "DELETE /api/v1/delegations/{delegation_id}": Doing(A.DELEGATION_REVOKE, ("person", "delegation")),
    "POST /me/delegations": Doing(
        A.DELEGATION_CREATE, _PERSON, form={"to": "{person}", "permissions": "project:read", "hours": "1"}
    ),
    "POST /me/delegations/{grant_id}/take-back": Doing(A.DELEGATION_REVOKE, ("person", "delegation")),
    # Passwords, e-mail addresses, bans.
    "PUT /api/v1/me/password": Doing(A.PASSWORD_CHANGE),
    "POST /me/password": Doing(A.PASSWORD_CHANGE),
    "POST /api/v1/password/resets": Doing(A.PASSWORD_RESET, body={"email": "{admin}@example.org"}),
    "POST /password/reset": Doing(A.PASSWORD_RESET, form={"email": "{admin}@example.org"}),
    "POST /api/v1/password": Doing(
        A.PASSWORD_CHANGE, ("reset link",), body={"token": "{link}", "password": NEW_PASSWORD}
    ),
    "POST /password/new": Doing(A.PASSWORD_CHANGE, ("reset link",), form={"token": "{link}", **_SAME}),
    "PUT /api/v1/me/email": Doing(A.EMAIL_VERIFY),
    "POST /api/v1/me/email/verification": Doing(A.EMAIL_VERIFY),
    "POST /api/v1/email/verifications": Doing(A.EMAIL_CONFIRM, ("verify link",), body={"token": "{link}"}),
    "POST /verify": Doing(A.EMAIL_CONFIRM, ("verify link",), form={"token": "{link}"}),
    "DELETE /api/v1/bans/names/{name}": Doing(A.BAN_DELETE, ("person", "ban of a name")),
    "DELETE /api/v1/bans/addresses/{address}": Doing(A.BAN_DELETE, ("ban of an address",)),
    # People.
    "POST /api/v1/users": Doing(A.USER_CREATE, body={"name": "{fresh}", "email": "{fresh}@example.org"}),
    "PATCH /api/v1/users/{name}": Doing(A.USER_UPDATE, _PERSON, body={"display_name": "Swept"}),
    "POST /api/v1/users/{name}/invitation": Doing(A.USER_INVITE, ("invited",)),
    "POST /api/v1/users/{name}/deactivation": Doing(A.USER_DEACTIVATE, _PERSON),
    "POST /api/v1/users/{name}/reactivation": Doing(A.USER_REACTIVATE, ("person", "deactivated")),
    "POST /people": Doing(A.USER_CREATE, form={"name": "{fresh}", "kind": "agent"}),
    "POST /people/{name}/change": Doing(A.USER_UPDATE, _PERSON, form={"display_name": "Swept"}),
    "POST /people/{name}/invite": Doing(A.USER_INVITE, ("invited",)),
    "POST /people/{name}/deactivate": Doing(A.USER_DEACTIVATE, _PERSON),
    "POST /people/{name}/reactivate": Doing(A.USER_REACTIVATE, ("person", "deactivated")),
    "POST /people/{name}/roles": Doing(A.BINDING_CREATE, _PERSON),
    "POST /people/{name}/roles/{binding_id}/take": Doing(A.BINDING_DELETE, ("person", "binding")),
    "POST /people/{name}/delegations/{grant_id}/take-back": Doing(A.DELEGATION_REVOKE, ("person", "delegation")),
    "DELETE /api/v1/audit/people/{user_id}": Doing(A.AUDIT_ERASE, ("person", "deactivated")),
    # Organisations and teams.
    "POST /api/v1/organizations": Doing(A.ORGANIZATION_CREATE, body={"name": "{fresh}"}),
    f"PATCH {_ORG}": Doing(A.ORGANIZATION_UPDATE, _TEAM, body={"display_name": "Swept"}),
    f"POST {_ORG}/deactivation": Doing(A.ORGANIZATION_DEACTIVATE, _TEAM),
    f"POST {_ORG}/reactivation": Doing(A.ORGANIZATION_REACTIVATE, ("team", "organization deactivated")),
    f"POST {_ORG}/teams": Doing(A.TEAM_CREATE, _TEAM),
    f"PATCH {_ORG}/teams/{{team}}": Doing(A.TEAM_UPDATE, _TEAM, body={"description": "Swept"}),
    f"DELETE {_ORG}/teams/{{team}}": Doing(A.TEAM_DELETE, _TEAM),
    f"PUT {_ORG}/teams/{{team}}/members/{{member}}": Doing(A.TEAM_ADD_MEMBER, ("person", "team")),
    f"DELETE {_ORG}/teams/{{team}}/members/{{member}}": Doing(A.TEAM_REMOVE_MEMBER, ("person", "team", "member")),
    "POST /organizations": Doing(A.ORGANIZATION_CREATE, form={"name": "{fresh}"}),
    "POST /organizations/{organization}/change": Doing(A.ORGANIZATION_UPDATE, _TEAM, form={"display_name": "Swept"}),
    "POST /organizations/{organization}/deactivate": Doing(A.ORGANIZATION_DEACTIVATE, _TEAM),
    "POST /organizations/{organization}/reactivate": Doing(
        A.ORGANIZATION_REACTIVATE, ("team", "organization deactivated")
    ),
    "POST /organizations/{organization}/teams": Doing(A.TEAM_CREATE, _TEAM),
    "POST /organizations/{organization}/teams/{team}/change": Doing(
        A.TEAM_UPDATE, _TEAM, form={"name": "{team}", "description": "Swept"}
    ),
    "POST /organizations/{organization}/teams/{team}/delete": Doing(A.TEAM_DELETE, _TEAM),
    "POST /organizations/{organization}/teams/{team}/members": Doing(
        A.TEAM_ADD_MEMBER, ("person", "team"), form={"member": "{person}"}
    ),
    "POST /organizations/{organization}/teams/{team}/members/{member}/remove": Doing(
        A.TEAM_REMOVE_MEMBER, ("person", "team", "member")
    ),
    # Roles.
    "POST /api/v1/roles": Doing(A.ROLE_CREATE, body={"name": "{fresh}", "permissions": []}),
    "PATCH /api/v1/roles/{name}": Doing(A.ROLE_UPDATE, _ROLE, body={"description": "Swept"}),
    "DELETE /api/v1/roles/{name}": Doing(A.ROLE_DELETE, _ROLE),
    "POST /api/v1/roles/bindings": Doing(A.BINDING_CREATE, _PERSON, body=_HOLDER),
    "DELETE /api/v1/roles/bindings/{binding_id}": Doing(A.BINDING_DELETE, ("person", "binding")),
    "POST /api/v1/projects/{owner}/{name}/access/bindings": Doing(A.BINDING_CREATE, ("holder",), body=_HOLDER),
    "DELETE /api/v1/projects/{owner}/{name}/access/bindings/{binding_id}": Doing(
        A.BINDING_DELETE, ("person", "binding on the project")
    ),
    "POST /{owner}/{name}/access/roles": Doing(A.BINDING_CREATE, ("holder",), form=_HOLDER),
    "POST /{owner}/{name}/access/roles/{binding_id}/take": Doing(
        A.BINDING_DELETE, ("person", "binding on the project")
    ),
    "POST /roles": Doing(A.ROLE_CREATE, form={"name": "{fresh}"}),
    "POST /roles/{name}/change": Doing(A.ROLE_UPDATE, _ROLE, form={"description": "Swept"}),
    "POST /roles/{name}/delete": Doing(A.ROLE_DELETE, _ROLE),
    # Projects and runs.
    "POST /api/v1/projects": Doing(A.PROJECT_CREATE, body={"name": "{fresh}"}),
    "POST /projects": Doing(A.PROJECT_CREATE, form={"name": "{fresh}"}),
    "PATCH /api/v1/projects/{owner}/{name}": Doing(A.PROJECT_UPDATE),
    "DELETE /api/v1/projects/{owner}/{name}": Doing(A.PROJECT_DELETE),
    f"POST {_RUNS}": Doing(A.PIPELINE_CREATE, ("repository",)),
    f"POST {_RUNS}/{{run_id}}/cancel": Doing(A.PIPELINE_CANCEL, ("repository", "run")),
    f"POST {_RUNS}/{{run_id}}/rerun": Doing(A.PIPELINE_CREATE, ("repository", "run")),
    "POST /{owner}/{name}/pipelines": Doing(A.PIPELINE_CREATE, ("repository",)),
    "POST /{owner}/{name}/pipelines/{run_id}/cancel": Doing(A.PIPELINE_CANCEL, ("repository", "run")),
    "POST /{owner}/{name}/pipelines/{run_id}/rerun": Doing(A.PIPELINE_CREATE, ("repository", "run")),
    # Second factors.
    "POST /api/v1/me/factors/totp": Doing(A.TOTP_BEGIN),
    "POST /api/v1/me/factors/totp/confirm": Doing(A.TOTP_CREATE, ("app begun",), body={"code": "{code}"}),
    "DELETE /api/v1/me/factors/totp": Doing(A.TOTP_DELETE, ("app",)),
    "POST /api/v1/me/factors/recovery-codes": Doing(A.RECOVERY_CODES_CREATE, ("app",)),
    "PATCH /api/v1/me/factors/passkeys/{passkey_id}": Doing(A.PASSKEY_UPDATE, ("passkey",)),
    "DELETE /api/v1/me/factors/passkeys/{passkey_id}": Doing(A.PASSKEY_DELETE, ("passkey",)),
    "DELETE /api/v1/users/{name}/factors": Doing(A.FACTORS_RESET, ("person", "their app")),
    "POST /me/factors/totp": Doing(A.TOTP_BEGIN),
    "POST /me/factors/totp/confirm": Doing(A.TOTP_CREATE, ("app begun",), form={"code": "{code}"}),
    "POST /me/factors/totp/remove": Doing(A.TOTP_DELETE, ("app",)),
    "POST /me/factors/recovery-codes": Doing(A.RECOVERY_CODES_CREATE, ("app",)),
    "POST /me/factors/passkeys/{passkey_id}/name": Doing(A.PASSKEY_UPDATE, ("passkey",)),
    "POST /me/factors/passkeys/{passkey_id}/remove": Doing(A.PASSKEY_DELETE, ("passkey",)),
    # Identities elsewhere, and our signing keys.
    "POST /api/v1/me/identity-token": Doing(A.IDENTITY_TOKEN_CREATE),
    "POST /api/v1/signing-keys/rotation": Doing(A.SIGNING_KEY_ROTATE),
    "DELETE /api/v1/me/external-identities/{external_id}": Doing(A.EXTERNAL_IDENTITY_UNLINK, ("link elsewhere",)),
    "DELETE /api/v1/users/{name}/external-identities/{external_id}": Doing(
        A.EXTERNAL_IDENTITY_UNLINK, ("person", "their link elsewhere")
    ),
    "POST /me/providers/{external_id}/unlink": Doing(A.EXTERNAL_IDENTITY_UNLINK, ("link elsewhere",)),
    # Nothing to tell of.
    "POST /api/v1/temporal/codec/decode": Doing(None, why="reads payloads for the Temporal UI"),
    "POST /api/v1/temporal/codec/encode": Doing(None, why="reads payloads for the Temporal UI"),
    "POST /api/v1/me/factors/passkeys/options": Doing(None, why="hands out a challenge"),
}

ELSEWHERE = {
    "POST /api/v1/audit/checkpoints": "tests/api/audit/test_checkpoints.py",
    "POST /audit/checkpoints": "tests/api/audit/test_checkpoints.py",
    "POST /api/v1/me/factors/passkeys": "tests/api/access/test_passkeys.py",
    "POST /me/factors/passkeys": "tests/e2e/test_passkeys.py",
    "POST /login": "tests/api/pages/test_pages.py",
    "POST /login/passkey": "tests/api/access/test_passkeys.py",
    "POST /login/second-factor": "tests/api/pages/test_second_factor.py",
    "POST /api/v1/users/{name}/external-identities": "tests/api/access/test_bearer_jwts.py",
    "POST /me/proof/oidc/{provider}": "tests/api/access/test_oidc_linking.py",
    "POST /me/providers/link/{provider}": "tests/api/access/test_oidc_linking.py",
    "POST /{owner}/{name}.git/git-upload-pack": "tests/policy/test_audited.py, with a real git",
    "POST /{owner}/{name}.git/git-receive-pack": "tests/policy/test_audited.py, with a real git",
}
"""Routes whose success needs more than a request: where it is tested. There every change without its row fails too
(``tests.support.unaudited``)."""
