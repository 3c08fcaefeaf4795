"""Using a trained model's codes to find things: encode a collection, index its codes, search, serve."""

from math_hash.retrieval.index import Index
from math_hash.retrieval.neighbors import BatchNeighbors, Neighbors
from math_hash.retrieval.opening import open_index
from math_hash.retrieval.results import Result, SearchResults
from math_hash.retrieval.searcher import Searcher

__all__ = ["BatchNeighbors", "Index", "Neighbors", "Result", "SearchResults", "Searcher", "open_index"]
