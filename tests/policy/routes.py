"""Every route of the API with what it needs and how to call it: the reviewed table behind the sweep.

A new route fails the sweep until it stands here. ``{owner}`` and ``{name}`` are filled with a private project.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from domain.access.permissions import Permission
from tests.support.factories import PASSWORD

NOWHERE = "00000000-0000-4000-8000-000000000000"

Needs = Literal["nothing", "identity"] | Permission


@dataclass(frozen=True)
class Call:
    """How to call a route so that nothing but the caller's rights decides.

    Attributes:
        needs: ``nothing`` (anonymous is served), ``identity`` (any signed-in one), or a permission.
        on_project: The permission is asked of the project in the path, else of the platform.
        body: JSON that is valid.
        values: What fills the path besides owner and name.
        query: The query string.
        form: A form instead of JSON.
        content_type: Of ``raw``.
        raw: A body that is neither JSON nor a form.
        by: ``session``: only for somebody at a browser, not for a token; ``proof``: and not even for them when their
            last proof of who they are is too long ago.
    """

    needs: Needs
    on_project: bool = False
    body: dict[str, Any] | None = None
    values: dict[str, str] = field(default_factory=dict)
    query: str = ""
    form: dict[str, str] | None = None
    content_type: str | None = None
    raw: bytes = b""
    by: Literal["any", "session", "proof"] = "any"


def _on_project(needs: Permission, **more: Any) -> Call:  # noqa: ANN401  # handed on to Call
    return Call(needs, on_project=True, **more)


READ, WRITE, RUN = Permission.PROJECT_READ, Permission.PROJECT_WRITE, Permission.PIPELINE_RUN
_A_RUN = {"run_id": NOWHERE}
_A_STEP = {"run_id": NOWHERE, "step": "build"}
_A_PASSKEY = {"passkey_id": NOWHERE}
_A_LINK = {"external_id": NOWHERE}
_A_PROVIDER = {"provider": "no-provider"}
_FACTORS = "/api/v1/me/factors"
_RUNS = "/api/v1/projects/{owner}/{name}/pipelines"
_BINDINGS = "/api/v1/projects/{owner}/{name}/access/bindings"
_NOBODY = {"name": "nobody-is-called-so"}
_NO_TEAM = {"organization": "no-organization", "team": "no-team", "member": "nobody"}
_TEAMS = "/api/v1/organizations/{organization}/teams"

ROUTES: dict[str, Call] = {
    "GET /healthz": Call("nothing"),
    "GET /readyz": Call("nothing"),
    "GET /metrics": Call("nothing"),
    "GET /schemas/pipeline.json": Call("nothing"),
    "GET /api/v1/openapi.json": Call("nothing"),
    "GET /api/v1/me": Call("identity"),
    "POST /api/v1/sessions": Call("nothing", body={"name": "nobody", "password": "wrong"}),
    "DELETE /api/v1/sessions/current": Call("identity"),
    "GET /api/v1/tokens": Call("identity"),
    "POST /api/v1/tokens": Call("identity", body={"name": "t", "scopes": ["project:read"]}),
    "DELETE /api/v1/tokens/{token_id}": Call("identity", values={"token_id": NOWHERE}),
    "GET /api/v1/access/explain": Call("identity", query="permission=project:create"),
    "GET /api/v1/access/who": Call(Permission.ADMIN_USERS, query="permission=project:create"),
    "GET /api/v1/projects/{owner}/{name}/access/explain": _on_project(READ, query="permission=project:read"),
    "GET /api/v1/projects/{owner}/{name}/access/who": _on_project(
        Permission.PROJECT_MANAGE, query="permission=project:read"
    ),
    "POST /api/v1/oauth/token": Call("nothing", form={"grant_type": "none"}),
    "GET /api/v1/delegations": Call("identity"),
    "POST /api/v1/delegations": Call("identity", body={"to": "nobody", "permissions": ["project:read"]}),
    "GET /api/v1/delegations/{delegation_id}": Call("identity", values={"delegation_id": NOWHERE}),
    "DELETE /api/v1/delegations/{delegation_id}": Call("identity", values={"delegation_id": NOWHERE}),
    # Passwords, e-mail addresses, bans.
    "PUT /api/v1/me/password": Call("identity", body={"present": PASSWORD, "new": "three swept camels drink"}),
    "POST /api/v1/password/resets": Call("nothing", body={"email": "nobody@example.org"}),
    "POST /api/v1/password": Call("nothing", body={"token": "no link", "password": "three swept camels drink"}),
    "PUT /api/v1/me/email": Call("identity", body={"email": "swept@example.org", "password": PASSWORD}),
    "POST /api/v1/me/email/verification": Call("identity"),
    "POST /api/v1/email/verifications": Call("nothing", body={"token": "no link"}),
    "GET /api/v1/bans": Call(Permission.ADMIN_USERS),
    "DELETE /api/v1/bans/names/{name}": Call(Permission.ADMIN_USERS),
    "DELETE /api/v1/bans/addresses/{address}": Call(Permission.ADMIN_USERS, values={"address": "192.0.2.1"}),
    "POST /api/v1/tokens/{token_id}/rotation": Call("identity", values={"token_id": NOWHERE}, body={}),
    "GET /api/v1/sessions": Call("identity"),
    "DELETE /api/v1/sessions": Call("identity"),
    "DELETE /api/v1/sessions/{session_id}": Call("identity", values={"session_id": NOWHERE}),
    "GET /api/v1/users": Call("identity"),
    "POST /api/v1/users": Call(Permission.ADMIN_USERS, body={"name": "swept", "email": "swept@example.org"}),
    "GET /api/v1/users/{name}": Call("identity", values=_NOBODY),
    "PATCH /api/v1/users/{name}": Call(Permission.ADMIN_USERS, values=_NOBODY, body={}),
    "POST /api/v1/users/{name}/invitation": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "POST /api/v1/users/{name}/deactivation": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "POST /api/v1/users/{name}/reactivation": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "GET /api/v1/users/{name}/sessions": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "DELETE /api/v1/users/{name}/sessions": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "GET /api/v1/users/{name}/tokens": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "POST /api/v1/users/{name}/tokens": Call(
        Permission.ADMIN_USERS, values=_NOBODY, body={"name": "t", "scopes": ["project:read"]}
    ),
    "GET /api/v1/organizations": Call("identity"),
    "POST /api/v1/organizations": Call(Permission.ORGANIZATION_CREATE, body={"name": "swept-organization"}),
    "GET /api/v1/organizations/{organization}": Call("identity", values=_NO_TEAM),
    "PATCH /api/v1/organizations/{organization}": Call("identity", values=_NO_TEAM, body={"display_name": None}),
    "POST /api/v1/organizations/{organization}/deactivation": Call(Permission.ADMIN_USERS, values=_NO_TEAM),
    "POST /api/v1/organizations/{organization}/reactivation": Call(Permission.ADMIN_USERS, values=_NO_TEAM),
    f"GET {_TEAMS}": Call("identity", values=_NO_TEAM),
    f"POST {_TEAMS}": Call("identity", values=_NO_TEAM, body={"name": "swept"}),
    f"PATCH {_TEAMS}/{{team}}": Call("identity", values=_NO_TEAM, body={"description": None}),
    f"DELETE {_TEAMS}/{{team}}": Call("identity", values=_NO_TEAM),
    f"GET {_TEAMS}/{{team}}/members": Call("identity", values=_NO_TEAM),
    f"PUT {_TEAMS}/{{team}}/members/{{member}}": Call("identity", values=_NO_TEAM),
    f"DELETE {_TEAMS}/{{team}}/members/{{member}}": Call("identity", values=_NO_TEAM),
    "GET /api/v1/roles": Call("identity"),
    "POST /api/v1/roles": Call(Permission.ADMIN_ROLES, body={"name": "swept", "permissions": []}, by="proof"),
    "GET /api/v1/roles/{name}": Call("identity", values=_NOBODY),
    "PATCH /api/v1/roles/{name}": Call(Permission.ADMIN_ROLES, values=_NOBODY, body={}, by="proof"),
    "DELETE /api/v1/roles/{name}": Call(Permission.ADMIN_ROLES, values=_NOBODY, by="proof"),
    "GET /api/v1/roles/bindings": Call(Permission.ADMIN_ROLES),
    "POST /api/v1/roles/bindings": Call(
        Permission.ADMIN_ROLES, body={"role": "viewer", "holder": "nobody"}, by="proof"
    ),
    "DELETE /api/v1/roles/bindings/{binding_id}": Call(
        Permission.ADMIN_ROLES, values={"binding_id": NOWHERE}, by="proof"
    ),
    f"GET {_BINDINGS}": _on_project(Permission.PROJECT_MANAGE),
    f"POST {_BINDINGS}": _on_project(
        Permission.PROJECT_MANAGE, body={"role": "viewer", "holder": "nobody"}, by="proof"
    ),
    f"DELETE {_BINDINGS}/{{binding_id}}": _on_project(
        Permission.PROJECT_MANAGE, values={"binding_id": NOWHERE}, by="proof"
    ),
    "GET /api/v1/projects": Call("identity"),
    "POST /api/v1/projects": Call(Permission.PROJECT_CREATE, body={"name": "swept"}),
    "GET /api/v1/projects/{owner}/{name}": _on_project(READ),
    "PATCH /api/v1/projects/{owner}/{name}": _on_project(WRITE, body={"description": "swept"}),
    "DELETE /api/v1/projects/{owner}/{name}": _on_project(Permission.PROJECT_DELETE),
    f"GET {_RUNS}": _on_project(READ),
    f"POST {_RUNS}": _on_project(RUN, body={"ref": "main"}),
    f"GET {_RUNS}/{{run_id}}": _on_project(READ, values=_A_RUN),
    f"POST {_RUNS}/{{run_id}}/cancel": _on_project(RUN, values=_A_RUN, body={}),
    f"POST {_RUNS}/{{run_id}}/rerun": _on_project(RUN, values=_A_RUN),
    f"GET {_RUNS}/{{run_id}}/events": _on_project(READ, values=_A_RUN),
    f"GET {_RUNS}/{{run_id}}/steps/{{step}}/log": _on_project(READ, values=_A_STEP),
    f"GET {_RUNS}/{{run_id}}/steps/{{step}}/log/stream": _on_project(READ, values=_A_STEP),
    f"GET {_RUNS}/{{run_id}}/artifacts": _on_project(READ, values=_A_RUN),
    f"GET {_RUNS}/{{run_id}}/artifacts/{{artifact_id}}": _on_project(
        READ, values={"run_id": NOWHERE, "artifact_id": NOWHERE}
    ),
    # The audit log.
    "GET /api/v1/audit": Call("identity"),
    "GET /api/v1/audit/key": Call("nothing"),
    "GET /api/v1/audit/checkpoints": Call(Permission.AUDIT_READ),
    "GET /api/v1/audit/checkpoints/{number}": Call(Permission.AUDIT_READ, values={"number": "1"}),
    "POST /api/v1/audit/checkpoints": Call(Permission.AUDIT_EXPORT, by="proof"),
    "GET /audit/checkpoints": Call(Permission.AUDIT_READ),
    "POST /audit/checkpoints": Call(Permission.AUDIT_EXPORT, form={}, by="proof"),
    "GET /api/v1/audit/export": Call(Permission.AUDIT_EXPORT, by="proof"),
    "DELETE /api/v1/audit/people/{user_id}": Call(Permission.ADMIN_USERS, values={"user_id": NOWHERE}, by="proof"),
    "GET /api/v1/projects/{owner}/{name}/audit": _on_project(Permission.AUDIT_READ),
    "GET /api/v1/projects/{owner}/{name}/audit/export": _on_project(Permission.AUDIT_EXPORT, by="proof"),
    "GET /audit": Call("identity"),
    # Second factors.
    "POST /api/v1/sessions/current/proof": Call("identity", body={}, by="session"),
    f"GET {_FACTORS}": Call("identity"),
    f"POST {_FACTORS}/totp": Call("identity", by="proof"),
    f"POST {_FACTORS}/totp/confirm": Call("identity", body={"code": "000000"}, by="proof"),
    f"DELETE {_FACTORS}/totp": Call("identity", by="proof"),
    f"POST {_FACTORS}/recovery-codes": Call("identity", by="proof"),
    f"POST {_FACTORS}/passkeys/options": Call("identity", by="session"),
    f"POST {_FACTORS}/passkeys": Call("identity", body={"name": "key", "credential": {}}, by="proof"),
    f"PATCH {_FACTORS}/passkeys/{{passkey_id}}": Call("identity", body={"name": "k"}, values=_A_PASSKEY, by="session"),
    f"DELETE {_FACTORS}/passkeys/{{passkey_id}}": Call("identity", values=_A_PASSKEY, by="proof"),
    "DELETE /api/v1/users/{name}/factors": Call(Permission.ADMIN_USERS, values=_NOBODY, by="proof"),
    # Pages.
    "GET /me/proof": Call("identity", by="session"),
    "POST /me/proof": Call("identity", form={}, by="session"),
    "GET /me": Call("identity", by="session"),
    "POST /me/tokens": Call(
        "identity", form={"name": "laptop", "scopes": "project:read", "expires_in_days": "1"}, by="proof"
    ),
    "POST /me/tokens/{token_id}/revoke": Call("identity", form={}, values={"token_id": NOWHERE}, by="session"),
    "POST /me/sessions/{session_id}/end": Call("identity", form={}, values={"session_id": NOWHERE}, by="session"),
    "POST /me/sessions/end-others": Call("identity", form={}, by="session"),
    "GET /me/delegations": Call("identity", by="session"),
    "POST /me/delegations": Call(
        "identity", form={"to": "nobody-is-called-so", "permissions": "project:read", "hours": "1"}, by="proof"
    ),
    "POST /me/delegations/{grant_id}/take-back": Call("identity", form={}, values={"grant_id": NOWHERE}, by="session"),
    "GET /people": Call("identity", by="session"),
    "POST /people": Call("identity", form={"name": "swept-page", "kind": "agent"}, by="session"),
    "GET /people/{name}": Call("identity", values=_NOBODY, by="session"),
    "POST /people/{name}/change": Call("identity", form={}, values=_NOBODY, by="session"),
    "GET /people/{name}/delegations": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "POST /people/{name}/delegations/{grant_id}/take-back": Call(
        Permission.ADMIN_USERS, form={}, values=_NOBODY | {"grant_id": NOWHERE}
    ),
    "POST /people/{name}/invite": Call("identity", form={}, values=_NOBODY, by="session"),
    "POST /people/{name}/deactivate": Call("identity", form={}, values=_NOBODY, by="session"),
    "POST /people/{name}/reactivate": Call("identity", form={}, values=_NOBODY, by="session"),
    "POST /people/{name}/roles": Call(Permission.ADMIN_ROLES, form={"role": "viewer"}, values=_NOBODY, by="proof"),
    "POST /people/{name}/roles/{binding_id}/take": Call(
        Permission.ADMIN_ROLES, form={}, values=_NOBODY | {"binding_id": NOWHERE}, by="proof"
    ),
    "GET /access/why": Call("identity", query="permission=project:create", by="session"),
    "GET /access/who": Call(Permission.ADMIN_USERS),
    "GET /{owner}/{name}/access": _on_project(Permission.PROJECT_MANAGE),
    "POST /{owner}/{name}/access/roles": _on_project(
        Permission.PROJECT_MANAGE, form={"role": "viewer", "holder": "nobody"}, by="proof"
    ),
    "POST /{owner}/{name}/access/roles/{binding_id}/take": _on_project(
        Permission.PROJECT_MANAGE, form={}, values={"binding_id": NOWHERE}, by="proof"
    ),
    "GET /organizations": Call("identity", by="session"),
    "POST /organizations": Call(Permission.ORGANIZATION_CREATE, form={"name": "swept-by-form"}),
    "GET /organizations/{organization}": Call("identity", values=_NO_TEAM, by="session"),
    "POST /organizations/{organization}/change": Call("identity", form={}, values=_NO_TEAM, by="session"),
    "POST /organizations/{organization}/deactivate": Call(Permission.ADMIN_USERS, form={}, values=_NO_TEAM),
    "POST /organizations/{organization}/reactivate": Call(Permission.ADMIN_USERS, form={}, values=_NO_TEAM),
    "POST /organizations/{organization}/teams": Call("identity", form={"name": "swept"}, values=_NO_TEAM, by="session"),
    "GET /organizations/{organization}/teams/{team}": Call("identity", values=_NO_TEAM, by="session"),
    "POST /organizations/{organization}/teams/{team}/change": Call("identity", form={}, values=_NO_TEAM, by="session"),
    "POST /organizations/{organization}/teams/{team}/delete": Call("identity", form={}, values=_NO_TEAM, by="session"),
    "POST /organizations/{organization}/teams/{team}/members": Call(
        "identity", form={"member": "nobody"}, values=_NO_TEAM, by="session"
    ),
    "POST /organizations/{organization}/teams/{team}/members/{member}/remove": Call(
        "identity", form={}, values=_NO_TEAM, by="session"
    ),
    "GET /roles": Call("identity", by="session"),
    "POST /roles": Call(Permission.ADMIN_ROLES, form={"name": "swept-by-form"}, by="proof"),
    "POST /roles/{name}/change": Call(Permission.ADMIN_ROLES, form={}, values=_NOBODY, by="proof"),
    "POST /roles/{name}/delete": Call(Permission.ADMIN_ROLES, form={}, values=_NOBODY, by="proof"),
    "POST /me/password": Call(
        "identity",
        form={"present": PASSWORD, "new": "three swept camels drink", "again": "three swept camels drink"},
        by="session",
    ),
    "GET /me/factors": Call("identity", by="session"),
    "POST /me/factors/totp": Call("identity", form={}, by="proof"),
    "POST /me/factors/totp/confirm": Call("identity", form={"code": "000000"}, by="proof"),
    "POST /me/factors/totp/remove": Call("identity", form={}, by="proof"),
    "POST /me/factors/recovery-codes": Call("identity", form={}, by="proof"),
    "POST /me/factors/passkeys": Call("identity", form={"name": "key"}, by="proof"),
    "POST /me/factors/passkeys/{passkey_id}/name": Call(
        "identity", form={"name": "k"}, values=_A_PASSKEY, by="session"
    ),
    "POST /me/factors/passkeys/{passkey_id}/remove": Call("identity", form={}, values=_A_PASSKEY, by="proof"),
    "POST /login/passkey": Call("nothing", form={"answer": "{}"}),
    "GET /login/second-factor": Call("nothing"),
    "POST /login/second-factor": Call("nothing", form={"code": "000000"}),
    "GET /": Call("identity"),
    "GET /login": Call("nothing"),
    "POST /login": Call("nothing", form={"name": "nobody", "password": "wrong"}),
    "POST /logout": Call("identity", form={}),
    "GET /password/reset": Call("nothing"),
    "POST /password/reset": Call("nothing", form={"email": "nobody@example.org"}),
    "GET /password/new": Call("nothing", query="token=none"),
    "POST /password/new": Call("nothing", form={"token": "no link", "password": "x", "again": "x"}),
    "GET /verify": Call("nothing", query="token=none"),
    "POST /verify": Call("nothing", form={"token": "no link"}),
    "POST /projects": Call(Permission.PROJECT_CREATE, form={"name": "swept"}),
    "GET /{owner}/{name}": _on_project(READ),
    "POST /{owner}/{name}/pipelines": _on_project(RUN, form={"ref": "main"}),
    "GET /{owner}/{name}/pipelines/{run_id}": _on_project(READ, values=_A_RUN),
    "GET /{owner}/{name}/pipelines/{run_id}/state": _on_project(READ, values=_A_RUN),
    "GET /{owner}/{name}/pipelines/{run_id}/steps/{step}/lines": _on_project(READ, values=_A_STEP),
    "POST /{owner}/{name}/pipelines/{run_id}/cancel": _on_project(RUN, values=_A_RUN, form={}),
    "POST /{owner}/{name}/pipelines/{run_id}/rerun": _on_project(RUN, values=_A_RUN, form={}),
    # Identities elsewhere, and our signing keys.
    "GET /.well-known/jwks.json": Call("nothing"),
    "GET /.well-known/openid-configuration": Call("nothing"),
    "POST /api/v1/me/identity-token": Call("identity", body={"audience": "swept"}),
    "GET /api/v1/signing-keys": Call(Permission.ADMIN_USERS),
    "POST /api/v1/signing-keys/rotation": Call(Permission.ADMIN_USERS, body={"reason": "swept"}, by="proof"),
    "GET /api/v1/me/external-identities": Call("identity"),
    "DELETE /api/v1/me/external-identities/{external_id}": Call("identity", values=_A_LINK, by="proof"),
    "GET /api/v1/users/{name}/external-identities": Call(Permission.ADMIN_USERS, values=_NOBODY),
    "POST /api/v1/users/{name}/external-identities": Call(
        Permission.ADMIN_USERS, values=_NOBODY, body={"issuer": "https://swept.example", "subject": "s"}, by="proof"
    ),
    "DELETE /api/v1/users/{name}/external-identities/{external_id}": Call(
        Permission.ADMIN_USERS, values=_NOBODY | _A_LINK, by="proof"
    ),
    "GET /login/oidc/{provider}": Call("nothing", values=_A_PROVIDER),
    "GET /login/oidc/{provider}/callback": Call("nothing", values=_A_PROVIDER),
    "POST /me/proof/oidc/{provider}": Call("identity", values=_A_PROVIDER, form={}, by="session"),
    "GET /me/providers": Call("identity", by="session"),
    "POST /me/providers/link/{provider}": Call("identity", values=_A_PROVIDER, form={}, by="proof"),
    "POST /me/providers/{external_id}/unlink": Call("identity", values=_A_LINK, form={}, by="proof"),
    # Temporal's UI.
    "POST /api/v1/temporal/codec/decode": Call(Permission.ADMIN_USERS, body={"payloads": []}),
    "POST /api/v1/temporal/codec/encode": Call(Permission.ADMIN_USERS, body={"payloads": []}),
    "OPTIONS /api/v1/temporal/codec/decode": Call("nothing"),
    "OPTIONS /api/v1/temporal/codec/encode": Call("nothing"),
    # git.
    "GET /{owner}/{name}.git/info/refs": _on_project(READ, query="service=git-upload-pack"),
    "POST /{owner}/{name}.git/git-upload-pack": _on_project(
        READ, content_type="application/x-git-upload-pack-request", raw=b"0000"
    ),
    "POST /{owner}/{name}.git/git-receive-pack": _on_project(
        WRITE, content_type="application/x-git-receive-pack-request", raw=b"0000"
    ),
    "GET /{owner}/{name}.git/{rest:path}": _on_project(READ, values={"rest:path": "HEAD"}),
    "GET /{owner}/{name}/info/refs": Call("nothing"),
}
