from tests.support.api import ApiServer


async def test_an_unknown_address_answers_a_problem_document(api_server: ApiServer) -> None:
    answer = await api_server.client.get("/api/v1/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
