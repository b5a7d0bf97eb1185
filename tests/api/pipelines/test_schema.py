from domain.pipelines.json_schema import SCHEMA_PATH, pipeline_json_schema
from tests.support.api import ApiServer


async def test_editors_get_the_schema_without_signing_in_and_keep_it(api_server: ApiServer) -> None:
    answer = await api_server.client.get(SCHEMA_PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json() == pipeline_json_schema()

    again = await api_server.client.get(SCHEMA_PATH, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]


async def test_an_old_copy_is_replaced(api_server: ApiServer) -> None:
    answer = await api_server.client.get(SCHEMA_PATH, headers={"If-None-Match": '"of before"'})
    assert answer.status_code == 200
