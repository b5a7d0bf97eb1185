"""What the checkpoint workflow and its activities hand each other."""

from pydantic import AwareDatetime, BaseModel, ConfigDict


class MadeCheckpoint(BaseModel):
    """A checkpoint that is signed and in the database.

    Attributes:
        rows: How many rows it is over.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    at: AwareDatetime
    rows: int


class PublishedCheckpoints(BaseModel):
    """The checkpoints that the object store got just now, by number."""

    model_config = ConfigDict(frozen=True)

    numbers: tuple[int, ...] = ()
