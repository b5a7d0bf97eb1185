"""A project as it is read in every statement that hands one on."""

from collections.abc import Mapping
from typing import Any

from domain.projects import ProjectView

VIEW_COLUMNS = """p.id, p.owner_id, p.owner_name, p.name, p.display_name, p.description, p.visibility,
    p.default_branch, p.created_at, p.updated_at"""
"""Of ``projects p``."""


def view_of(row: Mapping[str, Any]) -> ProjectView:
    """A project of a row that names its columns as ``ProjectView`` does."""
    return ProjectView(
        id=row["id"],
        owner_id=row["owner_id"],
        owner_name=row["owner_name"],
        name=row["name"],
        display_name=row["display_name"],
        description=row["description"],
        visibility=row["visibility"],
        default_branch=row["default_branch"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
