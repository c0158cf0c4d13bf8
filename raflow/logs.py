"""What is told by the logs of a process that is raflow's own."""

from __future__ import annotations

import logging

_DRIVERS = ("aiobotocore", "boto3", "botocore", "fsspec", "gcsfs", "google", "s3fs", "s3transfer", "urllib3")


def quiet_drivers() -> None:
    """Keep what drivers of stores tell below WARNING out of the root logger's output: it holds keys and tokens.

    A level that somebody else has set stays.
    """
    level = logging.WARNING if logging.getLogger().level < logging.WARNING else logging.NOTSET
    for logger in map(logging.getLogger, _DRIVERS):
        if logger.level in (logging.NOTSET, logging.WARNING):
            logger.setLevel(level)
