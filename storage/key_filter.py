"""Keys that were surely not seen, in memory that does not grow: a Bloom filter.

Most keys that are looked up just before a call are new. To ask SQLite about each costs little by itself, but gives the
interpreter away to another thread, and with 64 of them getting it back is what takes long.
"""

from __future__ import annotations

BITS = 23  # 1 MB; with 500,000 keys four in a thousand new ones are looked up for nothing


class KeyFilter:
    """Says of a key that it was never added, or that it may have been."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << (BITS - 3))

    def add(self, key: str) -> None:
        for place in _places(key):
            self._bits[place >> 3] |= 1 << (place & 7)

    def may_hold(self, key: str) -> bool:
        return all(self._bits[place >> 3] >> (place & 7) & 1 for place in _places(key))


def _places(key: str) -> tuple[int, int, int]:
    hashed = hash(key)  # 64 bits, the same within a process, which is as far as this goes
    mask = (1 << BITS) - 1
    return hashed & mask, hashed >> 20 & mask, hashed >> 40 & mask
