"""What the replicas of a Flow must agree on: replies to repeated requests, and how often a client may ask.

`replies.py` and `allowances.py` are the contracts, for stores of your own; `sql.py` keeps both in SQLite or
PostgreSQL, comes with `pip install 'raflow[sql]'` and loads on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raflow.extras import load
from raflow.stores.allowances import Allowances, OwnAllowances
from raflow.stores.replies import Claim, KeptReply, ReplyStore

if TYPE_CHECKING:
    from raflow.stores.sql import SqlAllowances as SqlAllowances
    from raflow.stores.sql import SqlReplies as SqlReplies

__all__ = ["Allowances", "Claim", "KeptReply", "OwnAllowances", "ReplyStore", "SqlAllowances", "SqlReplies"]


def __getattr__(name: str) -> Any:
    if name not in ("SqlAllowances", "SqlReplies"):
        msg = f"module 'raflow.stores' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(load("raflow.stores.sql", name, "sql"), name)
    globals()[name] = value
    return value
