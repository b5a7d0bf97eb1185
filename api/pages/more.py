"""The link to the next page of a list; a page may have several lists, each with a parameter of its own."""

from urllib.parse import urlencode


def more_url(path: str, cursor: str | None, /, *, parameter: str = "cursor", **kept: str | None) -> str | None:
    """Where the list goes on; ``None`` where it ends.

    Args:
        path: Of the page; not that of the request, which may be of a form that was refused.
        cursor: Where the next page of the list begins.
        parameter: What the list's cursor is called in the address.
        kept: What else stands in the address, for instance where the other lists of the page are.
    """
    if cursor is None:
        return None
    return f"{path}?{urlencode({key: value for key, value in kept.items() if value} | {parameter: cursor})}"
