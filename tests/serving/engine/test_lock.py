"""The engine's lock: who may not wait asks, and whoever holds it does what was asked for before letting go."""

from __future__ import annotations

import threading

from serving.engine.lock import EngineLock


def test_what_is_asked_for_is_done_at_once_where_the_lock_is_free_else_before_its_holder_lets_go_in_order():
    lock, done = EngineLock(), []
    lock.soon(lambda: done.append("free"))
    assert done == ["free"]
    with lock:
        for each in range(3):
            lock.soon(lambda each=each: done.append(each))
        lock.soon(lambda: lock.soon(lambda: done.append("asked for by what was asked for")))
        assert done == ["free"]
    assert done == ["free", 0, 1, 2, "asked for by what was asked for"]


def test_whoever_waits_under_the_lock_lets_go_of_it_and_is_woken_by_what_is_asked_for():
    lock, come = EngineLock(), []
    condition = lock.condition()

    def come_and_wake():
        come.append(None)
        condition.notify()

    with condition:
        lock.soon(come_and_wake)  # done when the wait begins: it may not be missed
        assert condition.wait_for(lambda: come, 60)


def test_it_knows_whether_anybody_waits_for_it():
    lock, taken = EngineLock(), threading.Event()

    def take():
        with lock:
            taken.set()

    waiting = threading.Thread(target=take)
    with lock:
        lock.soon(lambda: None)  # asks, and waits for nothing
        assert (lock.wanted, lock.acquire(blocking=False)) == (False, False)
        waiting.start()
        while not lock.wanted:
            taken.wait(0.001)
        assert not taken.is_set()
    waiting.join(60)
    assert (taken.is_set(), lock.wanted) == (True, False)


def test_what_fails_is_written_into_the_log_and_fails_nobody_else(caplog):
    lock, done = EngineLock(), []
    with lock:
        lock.soon(lambda: 1 / 0)
        lock.soon(lambda: done.append(None))
    assert (len(done), lock.acquire(blocking=False)) == (1, True)
    assert "ZeroDivisionError" in caplog.text


def test_nothing_that_is_asked_for_is_left_undone_or_done_beside_anything_else():
    """Some threads ask and never wait, others take the lock: each step under it is whole."""
    lock, inside, seen = EngineLock(), [], []

    def step():
        inside.append(None)
        seen.append(len(inside))
        inside.pop()

    def take():
        with lock:
            step()

    def many(once):
        for _ in range(500):
            once()

    threads = [threading.Thread(target=many, args=(once,)) for once in (take, lambda: lock.soon(step)) * 3]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert seen == [1] * 3_000
