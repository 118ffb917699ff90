"""Gateways of one deployment hear what callers have paid at the others, of this day alone."""

from __future__ import annotations

from serving.deployments.shared_use import SharedUse


class Store(dict):
    """One for all gateways."""

    def put(self, key, value):
        self[key] = value

    def names(self):
        return list(self)

    def delete(self, key):
        self.pop(key, None)


def test_each_hears_of_all_others_and_never_of_itself():
    store = Store()
    gateways = [SharedUse(store) for _ in range(3)]
    for place, gateway in enumerate(gateways):
        gateway.exchanged(7, {"camera": 10 + place})
    heard = [sorted(paid["camera"] for paid in gateway.exchanged(7, {}).values()) for gateway in gateways]
    assert heard == [[11, 12], [10, 12], [10, 11]]


def test_what_was_told_yesterday_counts_for_nothing_and_is_taken_away():
    store = Store()
    old, new = SharedUse(store), SharedUse(store)
    old.exchanged(7, {"camera": 10})
    assert new.exchanged(8, {"camera": 1}) == {}
    assert len(store) == 1
    assert list(old.exchanged(8, {}).values()) == [{"camera": 1}]


def test_whoever_has_nothing_to_tell_writes_nothing():
    store = Store()
    assert SharedUse(store).exchanged(7, {}) == {}
    assert not store
