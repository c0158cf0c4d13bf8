"""How a file is staged where no reader sees it, and published whole or not at all.

One module per kind of store; what is in the files, and their names, is in `writing.py`.
"""

from __future__ import annotations

from raflow.connectors.files.staging.contract import StagedFile, Staging, Token, run_of
from raflow.connectors.files.staging.gcs import GcsStaging
from raflow.connectors.files.staging.local import LocalStaging
from raflow.connectors.files.staging.renamed import RenamedStaging
from raflow.connectors.files.staging.s3 import S3Staging
from raflow.places import Location

__all__ = ["StagedFile", "Staging", "Token", "run_of", "staging_for"]

_STORES: dict[str, type[Staging]] = {
    "file": LocalStaging,
    "local": LocalStaging,
    "s3": S3Staging,
    "s3a": S3Staging,
    "gs": GcsStaging,
    "gcs": GcsStaging,
}


def staging_for(root: Location) -> Staging:
    """Return how files are staged and published in a folder."""
    return _STORES.get(root.protocol, RenamedStaging)(root)
