"""What the JSON interface takes and answers: the fields, their bounds, and the statuses of errors."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from math_hash.retrieval.ids import LONGEST_ID

LONGEST_TEXT = 10_000  # characters; encoders read far fewer
MOST_RESULTS = 1000
LAST_OFFSET = 10_000

# of every route that reads or changes rows, as OpenAPI documents them
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "a value cannot be used"},
    401: {"description": "the token is missing or wrong"},
    403: {"description": "not allowed here"},
    404: {"description": "no such row"},
    409: {"description": "the id is taken"},
    413: {"description": "too large"},
    415: {"description": "not a readable picture"},
    503: {"description": "too busy"},
    504: {"description": "took too long"},
}

RowId = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
TopK = Annotated[int, Field(ge=1, le=MOST_RESULTS)]
Radius = Annotated[int | None, Field(ge=0, le=4096)]
Offset = Annotated[int, Field(ge=0, le=LAST_OFFSET)]


class SearchOptions(BaseModel):
    """The options of every search."""

    model_config = ConfigDict(extra="forbid")
    top_k: TopK = Field(default=20, description="how many results")
    radius: Radius = Field(default=None, description="only rows within this Hamming distance")
    where: dict[str, Any] = Field(
        default={}, max_length=16, description="conditions on metadata: VALUE, [VALUE, ...], {min, max}, {not}, {all}"
    )
    offset: Offset = Field(default=0, description="how many results to leave out, for the pages after the first")
    fold: Radius = Field(default=None, description="mark rows within this distance of an earlier result")


class TextQuery(SearchOptions):
    """Search by a text."""

    text: str = Field(min_length=1, max_length=LONGEST_TEXT)


class CodeQuery(SearchOptions):
    """Search by a packed code in hexadecimal digits."""

    code: str = Field(pattern="^([0-9a-fA-F]{2})+$", max_length=8192)


class IdQuery(SearchOptions):
    """Search by a row of the index."""

    id: RowId


class Result(BaseModel):
    """A row of the index and its Hamming distance from the query. Integers of 2^53 and above are strings."""

    id: str | int
    distance: int
    metadata: dict[str, Any]
    duplicate_of: str | int | None = Field(description="an earlier result that it is near to, if `fold` was given")


class SearchResponse(BaseModel):
    """The nearest rows, nearest first, and how long the search took."""

    results: list[Result]
    nothing_close: bool = Field(description="the nearest row is further away than the model's threshold")
    notes: list[str] = Field(description="what a person should know of the answer, one line each")
    seconds: float


class FieldValue(BaseModel):
    """A value of a metadata field, and how many rows have it."""

    value: str | bool
    count: int


class Facet(BaseModel):
    """What rows have in a metadata field."""

    field: str
    kind: Literal["values", "number", "date"]
    values: list[FieldValue] = Field(default=[], description="the most frequent ones first")
    distinct: int = Field(default=0, description="how many values there are")
    min: str | float | None = Field(default=None, description="of numbers and dates")
    max: str | float | None = Field(default=None, description="of numbers and dates")


class Example(BaseModel):
    """A row of the index."""

    id: str | int
    metadata: dict[str, Any]


class Facets(BaseModel):
    """What is in the collection. Empty where the index's engine does not hand out its rows."""

    rows: int
    counted: int = Field(description="rows that the counts are of: the first ones of a large collection")
    facets: list[Facet]
    examples: list[Example] = Field(description="rows from all over the collection")
    fold: int | None = Field(description="distance at which near duplicates are rare enough to be folded; null: none")
