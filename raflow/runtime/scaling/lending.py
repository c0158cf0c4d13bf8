"""Lending: whole replicas seldom divide as the work does, so one that idles goes to the slowest pool for a while.

Theory. With 1 : 6 : 3 : 2 replicas for work of 1.3 : 6.7 : 2.7 : 1.3, the second pool is the slowest, and of the
others a part is always idle. While one of these lends a replica, work piles up before it; when it has the replica
back it is through with that sooner than new work comes. So pools lend in turn, and on average have fractions.
It pays where moving costs little: a replica that leaves hands its process on (but not a device), so what counts
is its set-up, and what it has to end before it can leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from raflow.runtime.scaling.allocation import Amounts, Share, fluid_s
from raflow.runtime.scaling.values import PoolMemory, PoolState

LEASE_S = 5.0
"""A replica is lent for so long."""
QUICK_S = 0.5
"""Only pools lend and borrow whose set-up takes no longer."""
LEAVE_S = 1.5
"""Nor what a replica has to end before it leaves."""
_GAIN = 1.05
_REST_S = 2 * LEASE_S
"""With less left to do, the lender would not be through with what piles up before all others are done."""
_SPARE = 0.4
"""Of a replica is idle in a pool that lends one."""


@dataclass(frozen=True)
class Loan:
    """One pool gives a replica to another for a while."""

    lender: str
    borrower: str
    idle: float
    """Replicas that were idle in the lender."""

    def __str__(self) -> str:
        return f"lends a replica to {self.borrower!r}, the bottleneck: {self.idle:.1f} are idle"


def without_lent(
    shares: Mapping[str, Share], pools: Mapping[str, PoolState], past: Mapping[str, PoolMemory], now_s: float
) -> list[Share]:
    """Return the shares of all pools; one that has lent does with what it has left."""
    return [
        replace(share, high=max(min(share.high, pools[name].size), share.low))
        if name in past and _has_lent(pools[name], past[name], pools, now_s)
        else share
        for name, share in shares.items()
    ]


def _has_lent(pool: PoolState, past: PoolMemory, pools: Mapping[str, PoolState], now_s: float) -> bool:
    """Whether a lease goes on: for some time, unless the pool's producers have to wait for it."""
    if past.lent_s is None or now_s - past.lent_s >= LEASE_S:
        return False
    return not any(one.blocked for one in pools.values() if pool.name in one.consumers)


def loan(
    pools: Mapping[str, PoolState],
    past: Mapping[str, PoolMemory],
    shares: Mapping[str, Share],
    capacity: Amounts,
    now_s: float,
) -> Loan | None:
    """Return what is to be lent now, if anything, while all pools stay as they are."""
    times = {name: share.work_s / max(pools[name].size, 1) for name, share in shares.items()}
    slowest = max(times, key=lambda name: times[name], default=None)
    if slowest is None or not _borrows(pools[slowest], shares[slowest]):
        return None
    if times[slowest] < max(_GAIN * fluid_s(shares.values(), capacity), _REST_S):
        return None
    idle = {
        name: pool.size - (past[name].load or 0.0)
        for name, pool in pools.items()
        if name != slowest and _lends(pool, shares[name], past[name], now_s) and _are_alike(pool, pools[slowest])
    }
    idle = {name: spare for name, spare in idle.items() if spare >= _SPARE}
    lender = max(idle, key=lambda name: pools[name].size - shares[name].work_s / times[slowest], default=None)
    return None if lender is None else Loan(lender, slowest, idle[lender])


def _borrows(pool: PoolState, share: Share) -> bool:
    """Whether it would use one more replica, at once."""
    return _is_nimble(pool) and pool.waiting > 0 and not pool.blocked and pool.size < share.high


def _lends(pool: PoolState, share: Share, past: PoolMemory, now_s: float) -> bool:
    """Whether it may do with one replica less: it keeps up, and was not changed a short while ago."""
    settled = not past.moved or now_s - past.moved_s >= LEASE_S
    spare = pool.size > max(share.low, 1) and pool.in_flight < pool.ready
    return _is_nimble(pool) and settled and spare and not pool.waiting


def _are_alike(one: PoolState, other: PoolState) -> bool:
    """Whether a process of one pool serves the other."""
    return one.needs == other.needs and one.runs_users == other.runs_users


def _is_nimble(pool: PoolState) -> bool:
    """Whether its replicas come and go at little cost."""
    if pool.fixed is not None or pool.rate is None or pool.setup_s is None:
        return False
    leaves_s = max(pool.held_s, pool.unit / pool.rate)
    return pool.setup_s <= QUICK_S and leaves_s <= LEAVE_S and not pool.needs.get("GPU")
