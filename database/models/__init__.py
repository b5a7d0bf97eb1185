"""All tables, so that their shared metadata is complete wherever this package is imported."""

from database.base import Base
from database.models import access, audit, credentials, git, pipelines, projects

__all__ = ["Base", "access", "audit", "credentials", "git", "pipelines", "projects"]
