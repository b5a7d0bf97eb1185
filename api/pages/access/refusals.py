"""What a form is refused for is said on its own page."""

from collections.abc import Awaitable

from api.refusals import write_down
from domain.errors import Conflict, InvalidInput, NotFound, PermissionMissing, ProofRequired

Refusal = Conflict | InvalidInput | NotFound | PermissionMissing


async def refusal_of(attempt: Awaitable[object]) -> Refusal | None:
    """Carries an attempt out and gives back why it was refused; ``None`` if it was done.

    Raises:
        ProofRequired: The browser is led on to the page that asks for the proof, with the form.
    """
    try:
        await attempt
    except ProofRequired:
        raise
    except (Conflict, InvalidInput, NotFound, PermissionMissing) as refused:
        await write_down(refused)
        return refused
    return None
