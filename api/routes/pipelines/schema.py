"""The JSON Schema of pipeline files, for editors."""

import hashlib
import json

from fastapi import APIRouter, Request, Response

from domain.pipelines.json_schema import SCHEMA_PATH, pipeline_json_schema

router = APIRouter(tags=["pipelines"])

MEDIA_TYPE = "application/schema+json"
_BODY = json.dumps(pipeline_json_schema(), ensure_ascii=False).encode()
_HEADERS = {
    "cache-control": "public, max-age=3600",
    "etag": f'"{hashlib.sha256(_BODY).hexdigest()}"',
    # An editor may run in a browser, on a page of its own; the schema is no secret.
    "access-control-allow-origin": "*",
}


@router.get(
    SCHEMA_PATH,
    summary="JSON Schema of a pipeline file",
    response_class=Response,
    responses={
        200: {"description": "JSON Schema 2020-12", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}},
        304: {"description": "The copy that the ETag names is still right"},
    },
)
async def get_pipeline_schema(request: Request) -> Response:
    """For anyone, without signing in: what may stand where in `.platform.yaml`, with descriptions and examples."""
    if _HEADERS["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=_HEADERS)
    return Response(_BODY, media_type=MEDIA_TYPE, headers=_HEADERS)
