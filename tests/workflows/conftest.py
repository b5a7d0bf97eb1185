import pytest
from temporalio.client import Client


@pytest.fixture(scope="session")
def client(temporal_client: Client) -> Client:
    """Connected as our programs are."""
    return temporal_client
