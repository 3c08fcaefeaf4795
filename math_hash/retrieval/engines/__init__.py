"""Where an index keeps its rows: a folder, Milvus, PostgreSQL."""
