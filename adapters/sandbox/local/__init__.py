"""Sandboxes made of this host's namespaces."""

from adapters.sandbox.local.sandboxes import LocalSandboxes

__all__ = ["LocalSandboxes"]
