"""A fresh place in a store that outlives the processes which meet there.

torchrun's agent keeps one store for all starts of a job. What an earlier start wrote
still stands there under the same names, and when machines join or leave nothing in the
environment tells one start from the next. So the first process names a place that was
never used before, and makes sure that each of the others, as it is now, has read that.
"""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress

from torch.distributed import DistStoreError
from torch.distributed.distributed_c10d import PrefixStore, Store

from chatgpt_cli.errors import ProcessMissing

# Seconds between two looks.
_PAUSE = 0.02


def meet(store: Store, rank: int, ranks: int, *, timeout: float) -> Store:
    """A part of the store that only these processes use, now.

    Raises:
        ProcessMissing: if somebody does not come within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    place = _invite(store, ranks, deadline) if rank == 0 else _follow(store, rank, deadline)
    return PrefixStore(f"chatgpt/{place}", store)


def _invite(store: Store, ranks: int, deadline: float) -> str:
    """The first process: name the place, until all others have said that they know it."""
    place = uuid.uuid4().hex
    published: dict[str, str] = {}
    missing = set(range(1, ranks))
    while missing:
        guests = {str(one): found for one in missing if (found := _read(store, f"guest/{one}"))}
        if guests and guests != published:
            published = guests
            store.set("chatgpt/invited", json.dumps([place, guests]))
        missing = {one for one in missing if _read(store, f"{place}/{one}") is None}
        _wait(deadline, f"process {min(missing, default=0)} did not come")
    return place


def _follow(store: Store, rank: int, deadline: float) -> str:
    """Any other: say who is here now, and wait for an invitation to this very one."""
    me = uuid.uuid4().hex
    store.set(f"chatgpt/guest/{rank}", me)
    while True:
        place, guests = json.loads(_read(store, "invited") or '["", {}]')
        if guests.get(str(rank)) == me:
            store.set(f"chatgpt/{place}/{rank}", "here")
            return str(place)
        _wait(deadline, "the first process did not come")


def _read(store: Store, name: str) -> str | None:
    """What stands there, without waiting for it."""
    with suppress(DistStoreError):
        if store.check([f"chatgpt/{name}"]):
            return store.get(f"chatgpt/{name}").decode()
    return None


def _wait(deadline: float, otherwise: str) -> None:
    if time.monotonic() > deadline:
        raise ProcessMissing(otherwise, remedy="See whether it runs, and can reach this machine.")
    time.sleep(_PAUSE)
