"""The namespace and its search attributes, made where they are missing. Safe to repeat, by several workers at once.

The development server ignores ``--search-attribute`` for a namespace that exists already, and a cluster gets new
attributes with a new version of ours; so this runs at each worker start, through the operator API.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.errors import Conflict, Unavailable
from temporal.client import translated_errors
from temporal.names import SEARCH_ATTRIBUTES

RETENTION = timedelta(days=30)
"""How long the history of a closed workflow is kept in a namespace that we make; an operator may change it later."""
VISIBLE_WITHIN_SECONDS = 30.0
"""A cluster's frontends refresh their caches of namespaces and attributes every few seconds."""

_KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD


async def ensure_namespace(client: Client) -> None:
    """Makes the client's namespace and its search attributes if they are missing, and waits until they can be used.

    Raises:
        domain.errors.Unavailable: The server does not answer, or does not show them in time; trying again is safe.
        domain.errors.Conflict: An attribute of that name exists with another type; the message says what to do.
    """
    with translated_errors():
        if not await _namespace_exists(client):
            await _register(client)
            await _until_visible(client, "namespace", lambda: _namespace_exists(client))
        missing = await _missing_attributes(client)
        if missing:
            await _add(client, missing)
            await _until_visible(client, "search attributes", lambda: _attributes_exist(client))


async def _namespace_exists(client: Client) -> bool:
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def _register(client: Client) -> None:
    retention = Duration(seconds=int(RETENTION.total_seconds()))
    try:
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(
                namespace=client.namespace,
                workflow_execution_retention_period=retention,
                description="Perdure: pipelines, pushes and what keeps them",
            )
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


async def _missing_attributes(client: Client) -> list[str]:
    try:
        answer = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        # A frontend that has not heard of the new namespace yet has none of its attributes.
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return [key.name for key in SEARCH_ATTRIBUTES]
    present = answer.custom_attributes
    for key in SEARCH_ATTRIBUTES:
        if key.name in present and present[key.name] != _KEYWORD:
            raise Conflict(
                f"The search attribute {key.name} of the namespace {client.namespace} exists with the type "
                f"{IndexedValueType.Name(present[key.name])}, but must be a keyword. Remove it with "
                f"`temporal operator search-attribute remove --name {key.name}`, or use another namespace."
            )
    return [key.name for key in SEARCH_ATTRIBUTES if key.name not in present]


async def _attributes_exist(client: Client) -> bool:
    return not await _missing_attributes(client)


async def _add(client: Client, names: list[str]) -> None:
    deadline = time.monotonic() + VISIBLE_WITHIN_SECONDS
    while True:
        try:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=dict.fromkeys(names, _KEYWORD))
            )
        except RPCError as error:
            if error.status is RPCStatusCode.ALREADY_EXISTS:
                return
            if error.status is not RPCStatusCode.NOT_FOUND or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            return


async def _until_visible(client: Client, what: str, visible: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + VISIBLE_WITHIN_SECONDS
    while not await visible():
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Temporal took the {what} of {client.namespace} but does not show them "
                f"after {VISIBLE_WITHIN_SECONDS:.0f} s.",
                neighbour="temporal",
            )
        await asyncio.sleep(0.1)
