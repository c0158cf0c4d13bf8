"""The contract of a store for replies to requests that may be repeated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class KeptReply:
    """A reply, as it was first sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Claim:
    """What a store knows of a key, after an attempt to claim it."""

    is_granted: bool
    """Whether the caller is to do the work."""
    digest: bytes
    """Of the request that the key was claimed for."""
    reply: KeptReply | None = None
    """What that was answered; None while somebody works on it."""


class ReplyStore(ABC):
    """Replies by the key that clients have given, shared by replicas.

    All methods may block, are called from any thread, and raise `StoreError` when the store cannot be used.
    It pickles: each replica has a copy, which connects by itself.
    """

    @abstractmethod
    def claim(self, key: str, digest: bytes, owner: str, lease_s: float) -> Claim:
        """Claim a key, unless it has a reply or is claimed. Of several callers at once, one is granted it.

        Args:
            key: At most 1,000 characters.
            digest: Of the request.
            owner: Of the claim; no two attempts have the same.
            lease_s: For how long; a claim that is neither kept, released nor renewed by then is as if it had
                not been: its owner has died.
        """

    @abstractmethod
    def renew(self, key: str, owner: str, lease_s: float) -> None:
        """Prolong a claim: its owner still works. Nothing, if the claim is not theirs any more, or has its reply.

        Args:
            key: As it was claimed.
            owner: As it was claimed.
            lease_s: For how long from now.
        """

    @abstractmethod
    def keep(self, key: str, owner: str, reply: KeptReply) -> None:
        """Keep the reply to what the owner has claimed. Nothing, if the claim is not theirs any more."""

    @abstractmethod
    def release(self, key: str, owner: str) -> None:
        """Give a claim up: the next attempt is granted it. Nothing, if the claim is not theirs any more."""

    def close(self) -> None:  # noqa: B027 - there may be nothing to release
        """Release what the copy holds; it may be used again."""
