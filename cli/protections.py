"""Which protections of steps this host cannot give: said at the start instead of running without in silence."""

import httpx


async def missing_protections(worker_address: str) -> list[str]:
    """One line for each kind of isolation that steps lack, as the worker that runs them found out by a trial."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = await client.get(f"http://{worker_address}/healthz")
    except httpx.TransportError as error:
        return [f"not known, because the worker does not answer just now ({error!r}); its log names them"]
    missing: list[str] = answer.json()["missing_protections"]
    return missing
