"""What the JSON interface takes and answers: the fields, their bounds, and the statuses of errors."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from math_hash.retrieval.ids import LONGEST_ID

LONGEST_TEXT = 10_000  # characters; encoders read far fewer
MOST_RESULTS = 1000

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


class SearchOptions(BaseModel):
    """The options of every search."""

    model_config = ConfigDict(extra="forbid")
    top_k: TopK = Field(default=20, description="how many results")
    radius: Radius = Field(default=None, description="only rows within this Hamming distance")
    where: dict[str, Any] = Field(
        default={}, max_length=16, description="conditions on metadata: VALUE, [VALUE, ...], {min, max}, {not}, {all}"
    )


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


class SearchResponse(BaseModel):
    """The nearest rows, nearest first, and how long the search took."""

    results: list[Result]
    nothing_close: bool = Field(description="the nearest row is further away than the model's threshold")
    notes: list[str] = Field(description="what a person should know of the answer, one line each")
    seconds: float
