"""The routes for those who run the server: health and metrics."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from math_hash.retrieval.server.state import State

router = APIRouter()


@router.get("/health")
async def health(state: State) -> dict[str, Any]:
    """Whether the server works, and what it serves.

    It does not wait behind other requests: while there are some, the number of rows is that of the last look.
    """
    if not state.worker.waiting:
        state.traffic.rows = await state.worker.run(lambda: len(state.index))
    return {
        "status": "ok",
        "rows": state.traffic.rows,
        "waiting": state.worker.waiting,
        "k_bits": state.index.k_bits,
        "method": state.model.method,
        "pictures": state.image_root is not None,
        "token": state.is_public,
    }


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(state: State) -> str:
    """Counters in the text format of Prometheus."""
    lines = [
        f'math_hash_requests_total{{method="{method}",status="{status}"}} {count}'
        for (method, status), count in sorted(state.traffic.requests.items())
    ]
    lines.append(f"math_hash_request_seconds_total {state.traffic.seconds:.6f}")
    lines.append(f"math_hash_waiting {state.worker.waiting}")
    return "\n".join(lines) + "\n"
