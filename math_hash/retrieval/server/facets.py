"""The route that tells what is in the collection: what can be filtered on, and examples."""

from fastapi import APIRouter

from math_hash.retrieval.facets import FieldCounter, folding_radius
from math_hash.retrieval.server.schemas import ERRORS, Example, Facet, Facets
from math_hash.retrieval.server.state import ServerState, State

router = APIRouter(responses=ERRORS)
MOST_ROWS = 200_000  # that are counted
EXAMPLES = 48


@router.get("/facets")
async def show_facets(state: State) -> Facets:
    """Values of the metadata with their counts, ranges of numbers and dates, and examples; kept until rows change."""
    async with state.facets_lock:
        rows = await state.worker.run(lambda: len(state.index))
        if rows not in state.facets:
            state.facets.clear()
            state.facets[rows] = await _count(state, rows)
        return state.facets[rows]


async def _count(state: ServerState, rows: int) -> Facets:
    """Count chunk by chunk, so that searches come in between."""
    counter, examples = FieldCounter(), list[Example]()
    step = max(1, min(rows, MOST_ROWS) // EXAMPLES)
    chunks = state.index.all_metadata()

    def count_chunk() -> bool:
        chunk = next(chunks, [])
        for row_id, metadata in chunk:
            if counter.rows % step == 0 and len(examples) < EXAMPLES:
                examples.append(Example(id=row_id, metadata=metadata))
            counter.add(metadata)
        return bool(chunk)

    while counter.rows < MOST_ROWS and await state.worker.run(count_chunk):
        pass
    fold = await state.worker.run(lambda: folding_radius(state.index, [example.id for example in examples]))
    facets = [Facet(**facet) for facet in counter.facets()]
    return Facets(rows=rows, counted=counter.rows, facets=facets, examples=examples, fold=fold)
