"""Every route of the API with what it needs and how to call it: the reviewed table behind the sweep.

A new route fails the sweep until it stands here. ``{owner}`` and ``{name}`` are filled with a private project.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from domain.access.permissions import Permission

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
    """

    needs: Needs
    on_project: bool = False
    body: dict[str, Any] | None = None
    values: dict[str, str] = field(default_factory=dict)
    query: str = ""
    form: dict[str, str] | None = None
    content_type: str | None = None
    raw: bytes = b""


def _on_project(needs: Permission, **more: Any) -> Call:  # noqa: ANN401  # handed on to Call
    return Call(needs, on_project=True, **more)


READ, WRITE, RUN = Permission.PROJECT_READ, Permission.PROJECT_WRITE, Permission.PIPELINE_RUN
_A_RUN = {"run_id": NOWHERE}
_A_STEP = {"run_id": NOWHERE, "step": "build"}
_RUNS = "/api/v1/projects/{owner}/{name}/pipelines"

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
    "GET /api/v1/delegations": Call("identity"),
    "POST /api/v1/delegations": Call("identity", body={"to": "nobody", "permissions": ["project:read"]}),
    "GET /api/v1/delegations/{delegation_id}": Call("identity", values={"delegation_id": NOWHERE}),
    "DELETE /api/v1/delegations/{delegation_id}": Call("identity", values={"delegation_id": NOWHERE}),
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
    # Pages.
    "GET /": Call("identity"),
    "GET /login": Call("nothing"),
    "POST /login": Call("nothing", form={"name": "nobody", "password": "wrong"}),
    "POST /logout": Call("identity", form={}),
    "POST /projects": Call(Permission.PROJECT_CREATE, form={"name": "swept"}),
    "GET /{owner}/{name}": _on_project(READ),
    "POST /{owner}/{name}/pipelines": _on_project(RUN, form={"ref": "main"}),
    "GET /{owner}/{name}/pipelines/{run_id}": _on_project(READ, values=_A_RUN),
    "GET /{owner}/{name}/pipelines/{run_id}/state": _on_project(READ, values=_A_RUN),
    "GET /{owner}/{name}/pipelines/{run_id}/steps/{step}/lines": _on_project(READ, values=_A_STEP),
    "POST /{owner}/{name}/pipelines/{run_id}/cancel": _on_project(RUN, values=_A_RUN, form={}),
    "POST /{owner}/{name}/pipelines/{run_id}/rerun": _on_project(RUN, values=_A_RUN, form={}),
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
