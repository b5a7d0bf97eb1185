"""Which protections of steps this host cannot give: said at the start instead of running without in silence."""

from pathlib import Path

from adapters.sandbox.local import LocalSandboxes
from deploy.local.installation import Installation


def missing_protections(installation: Installation) -> list[str]:
    """One line for each kind of isolation that steps lack here."""
    root = Path(str(installation.settings.values["sandbox"]["root"]))
    return [
        f"{protection.name}: {protection.detail}"
        for protection in LocalSandboxes(root).protections()
        if not protection.active
    ]
