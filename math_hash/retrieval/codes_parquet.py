"""A folder of codes as one parquet file, for tools that read tables."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from math_hash.errors import import_extra
from math_hash.files import map_array

PARQUET = "codes.parquet"
_ROW_GROUP = 65536


def write_parquet(folder: Path, config: dict[str, Any]) -> None:
    """Write `codes.parquet` from the `codes.npy` and `rows.jsonl` of a folder, one row group after another.

    Columns: `id`, a string; `code`, packed, fixed-size binary of ceil(k / 8) bytes; `metadata`, JSON.
    The schema's metadata has the model's fingerprint, the method and `k_bits`.

    Args:
        folder: the folder of codes, which is not complete yet.
        config: its `config.json` so far.

    Raises:
        InputError: pyarrow is not installed.
    """
    arrow = import_extra("pyarrow", "parquet", folder)
    parquet = import_extra("pyarrow.parquet", "parquet", folder)
    codes = map_array(folder / "codes.npy")
    width = codes.shape[1]
    fields = [("id", arrow.string()), ("code", arrow.binary(width)), ("metadata", arrow.string())]
    schema = arrow.schema(fields, {name: str(config[name]) for name in ("model", "method", "k_bits")})
    with (
        open(folder / "rows.jsonl", encoding="utf-8") as lines,
        parquet.ParquetWriter(folder / PARQUET, schema) as file,
    ):
        for start in range(0, len(codes), _ROW_GROUP):
            block = codes[start : start + _ROW_GROUP]
            rows = [json.loads(line) for line in islice(lines, len(block))]
            columns = [
                [row["id"] for row in rows],
                arrow.FixedSizeBinaryArray.from_buffers(
                    schema.field("code").type, len(block), [None, arrow.py_buffer(block.tobytes())]
                ),
                [json.dumps(row["metadata"], ensure_ascii=False) for row in rows],
            ]
            arrays = [arrow.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
            file.write_table(arrow.Table.from_arrays(arrays, schema=schema))
