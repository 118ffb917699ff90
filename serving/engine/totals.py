"""Running totals over everybody who waits, so that a newcomer is judged without looking at each of them. Pure."""

from __future__ import annotations


class CappedTotal:
    """Whole numbers above 0, and what they sum to where none counts for more than a cap that is named later.

    A change and a sum take a step for each bit of the numbers, however many there are. Numbers of one length are counted by
    their leading bits: how many begin so, and what they sum to.
    """

    def __init__(self) -> None:
        self._lengths: dict[int, dict[int, tuple[int, int]]] = {}

    def change(self, old: int, new: int) -> None:
        """One number was `old` and is `new`; 0 is none."""
        if old != new:
            self._add(old, -1)
            self._add(new, 1)

    def capped(self, cap: int) -> int:
        """The sum of `min(number, cap)`."""
        total, length = 0, cap.bit_length()
        for bits, prefixes in self._lengths.items():
            count, amount = prefixes[1]
            if bits < length:
                total += amount
            elif bits > length:
                total += count * cap
            else:
                total += self._capped(prefixes, cap)
        return total

    def _add(self, number: int, times: int) -> None:
        bits = number.bit_length()
        prefixes, prefix = self._lengths.setdefault(bits, {}) if bits else {}, number
        while prefix:
            count, amount = prefixes.get(prefix, (0, 0))
            if count + times:
                prefixes[prefix] = count + times, amount + times * number
            else:
                del prefixes[prefix]
            prefix >>= 1
        if bits and not prefixes:
            del self._lengths[bits]

    def _capped(self, prefixes: dict[int, tuple[int, int]], cap: int) -> int:
        """The sum over the numbers as long as `cap`: bit by bit, those that begin to differ from it here."""
        total = 0
        for shift in range(cap.bit_length() - 2, -1, -1):
            prefix = cap >> shift
            count, amount = prefixes.get(prefix ^ 1, (0, 0))
            total += amount if prefix & 1 else count * cap  # the others have a 0 where the cap has a 1, or the reverse
        return total + prefixes.get(cap, (0, 0))[1]
