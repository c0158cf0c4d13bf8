"""Conversion, by annotation, between Arrow record batches and what user functions get and return."""

from __future__ import annotations

from raflow.convert.columns import check
from raflow.convert.decided import decided
from raflow.convert.decode import Decoded
from raflow.convert.encode import Encoded, concat, encode, encode_batch
from raflow.convert.shape import Shape, returned_schema, shape_of

__all__ = [
    "Decoded",
    "Encoded",
    "Shape",
    "check",
    "concat",
    "decided",
    "encode",
    "encode_batch",
    "returned_schema",
    "shape_of",
]
