import pytest

from tests.support.api import ApiServer


@pytest.fixture(scope="package")
def api_server(api_server_without_temporal: ApiServer) -> ApiServer:
    """A push is answered at once and stays open."""
    return api_server_without_temporal
