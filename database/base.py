"""What every table shares: naming of constraints, ids, times, JSON."""

from typing import Any

from sqlalchemy import DateTime, MetaData, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlmodel import Field, SQLModel

NAMING_CONVENTION = {
    "ix": "idx_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(SQLModel):
    """The root of all tables; its metadata names constraints so that migrations can name them too."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def id_field() -> Any:  # noqa: ANN401  # a field descriptor; SQLModel types it as the annotated attribute
    """A primary key made by the database: a random UUID (RFC 9562, version 4)."""
    return Field(
        default=None, primary_key=True, sa_type=Uuid, sa_column_kwargs={"server_default": text("gen_random_uuid()")}
    )


def created_at_field() -> Any:  # noqa: ANN401  # as above
    """When the row was made, by the database's clock."""
    return Field(default=None, sa_type=DateTime(timezone=True), sa_column_kwargs={"server_default": text("now()")})


def moment_field() -> Any:  # noqa: ANN401  # as above
    """A moment that may not have come yet."""
    return Field(default=None, nullable=True, sa_type=DateTime(timezone=True))


def json_field(*, nullable: bool = False, default: str = "{}") -> Any:  # noqa: ANN401  # as above
    """A JSONB column; ``default`` is the JSON text for new rows."""
    if nullable:
        return Field(default=None, nullable=True, sa_type=JSONB(none_as_null=True))
    return Field(default=None, sa_type=JSONB, sa_column_kwargs={"server_default": text(f"'{default}'::jsonb")})


def texts_field() -> Any:  # noqa: ANN401  # as above
    """A TEXT[] column, empty for new rows."""
    return Field(default=None, sa_type=ARRAY(TEXT), sa_column_kwargs={"server_default": text("'{}'::text[]")})
