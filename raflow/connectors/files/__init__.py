"""Files as sources and sinks: Parquet, CSV, JSON Lines and Arrow, on local disks and object stores."""

from __future__ import annotations

from raflow.connectors.files.arrow import ArrowFiles
from raflow.connectors.files.csv import CsvFiles
from raflow.connectors.files.jsonl import JsonLinesFiles
from raflow.connectors.files.parquet import ParquetFiles

__all__ = ["ArrowFiles", "CsvFiles", "JsonLinesFiles", "ParquetFiles"]
