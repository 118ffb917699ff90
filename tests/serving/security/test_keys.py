"""API keys: found by their hash, refused once revoked or expired, and never kept, logged or repeated."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from serving.commands.cli import main
from serving.errors import Unauthenticated, Unavailable
from serving.security import keys, watched
from serving.security.watched import SecurityError, Watched
from tests.serving.security.credentials import NOW, key, moment


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys"


def put(file, *records):
    """Replace the file at once, as an editor or a mounted Secret does."""
    aside = file.with_name("aside")
    aside.write_bytes(keys.written(records))
    os.replace(aside, file)


def refused(known, text, message):
    with pytest.raises(Unauthenticated, match=message) as error:
        known.caller(text)
    assert len(text) < 10 or text[4:10] not in error.value.message


def test_whoever_bears_a_key_is_known_and_nobody_else(file):
    text, record = key(scopes=["infer", "read"])
    put(file, record, key("other")[1])
    known = keys.Keys(file)
    assert (known.caller(text).name, known.caller(text).scopes) == ("camera", {"infer", "read"})
    for wrong in (keys.new(), text[:-1], text + "A", text.upper(), keys.PREFIX, record.sha256, text + ", " + text):
        refused(known, wrong, "not known")


def test_a_key_ends_when_it_expires(file):
    text, record = key(expires=moment(NOW))
    put(file, record)
    assert keys.Keys(file, lambda: NOW - 0.001).caller(text)
    refused(keys.Keys(file, lambda: NOW), text, "expired")


def soon(happens):
    """By itself within a second: the file is looked at five times in one. A busy machine gets some more."""
    assert 3 * watched._LOOK_EVERY_S < 0.7
    began = time.monotonic()
    while not happens():
        assert time.monotonic() - began < 10, "it took far longer than a second"
        time.sleep(0.01)


def knows(known, text):
    try:
        return bool(known.caller(text))
    except Unauthenticated:
        return False


def test_a_key_that_is_revoked_or_taken_out_stops_within_a_second_and_one_that_is_added_begins(file):
    (first, record), (second, other) = key(), key()
    put(file, record)
    known = keys.Keys(file)
    assert knows(known, first)
    put(file, keys.msgspec.structs.replace(record, revoked=moment(0)), other)
    soon(lambda: not knows(known, first) and knows(known, second))
    put(file, record)
    soon(lambda: knows(known, first) and not knows(known, second))


def test_a_file_behind_a_link_that_is_put_elsewhere_is_read_again(tmp_path):
    """As Kubernetes changes a mounted Secret."""
    (first, record), (second, other) = key(), key()
    for name, each in (("a", record), ("b", other)):
        (tmp_path / name).mkdir()
        put(tmp_path / name / "keys", each)
    (tmp_path / "now").symlink_to("a")
    known = keys.Keys(tmp_path / "now" / "keys")
    assert knows(known, first)
    (tmp_path / "next").symlink_to("b")
    os.replace(tmp_path / "next", tmp_path / "now")
    soon(lambda: knows(known, second) and not knows(known, first))


@pytest.mark.parametrize("broken", [b"{", b"", None])
def test_a_file_that_stays_broken_or_away_lets_nobody_in_and_one_that_is_mended_does(file, broken):
    """A moment of it, while someone writes, is no harm."""
    text, record = key()
    put(file, record)
    known = keys.Keys(file)
    file.unlink()
    if broken is not None:
        file.write_bytes(broken)
    known._watched.look()
    assert known.caller(text)

    def away():
        try:
            return not known.caller(text)
        except Unavailable:
            return True

    soon(away)
    put(file, record)
    soon(lambda: not away())


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        '{"keys": {}}',
        '{"keys": [], "more": 1}',
        '{"keys": [{"name": "a"}]}',
        *(
            json.dumps({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": ["infer"], **changes}]})
            for changes in (
                {"name": ""},
                {"name": "a b"},
                {"name": "a\n"},
                {"name": "jwt:robot"},
                {"name": "a" * 65},
                {"sha256": "0" * 63},
                {"sha256": "0" * 64 + "\n"},
                {"sha256": "Z" * 64},
                {"scopes": ["root"]},
                {"scopes": "infer"},
                {"expires": "2030-01-01"},
                {"expires": "2030-01-01T00:00:00"},
                {"expires": 5},
                {"key": "cs-in-the-clear"},
            )
        ),
        json.dumps({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": []}] * 2}),
        '{"keys": [{"name": "a", "name": "b", "sha256": "' + "0" * 64 + '", "scopes": []}]}',
        "[" * 100_000,
    ],
)
def test_a_file_that_says_something_else_is_refused_and_not_repeated(file, document):
    file.write_text(document)
    with pytest.raises(SecurityError) as error:
        keys.Keys(file)
    assert "in-the-clear" not in str(error.value)
    assert len(str(error.value)) < 600


def test_what_becomes_of_keys_is_told_to_the_audit_log_without_any_key(file, caplog):
    (first, record), (second, other), (third, last) = key("camera"), key("robot"), key("drone")
    put(file, record, other)
    known = keys.Keys(file)
    assert "audit" not in caplog.text
    put(file, keys.msgspec.structs.replace(record, revoked=moment(0)), last)
    soon(lambda: knows(known, third))
    told = {each.getMessage() for each in caplog.records if each.name == "certserve.audit"}
    assert told == {
        f"key {record.id} of camera: revoked",
        f"key {other.id} of robot: removed",
        f"key {last.id} of drone: added",
    }
    assert not [text for text in (first, second, third) if text in caplog.text]


def test_whatever_goes_wrong_with_a_file_nobody_is_let_in_and_it_is_watched_on(file, monkeypatch):
    text, record = key()
    put(file, record)
    known, parse = keys.Keys(file), keys.parse

    def fails(data):
        raise MemoryError

    monkeypatch.setattr(keys, "parse", fails)
    put(file, record, key()[1])

    def away():
        try:
            return not known.caller(text)
        except Unavailable:
            return True

    soon(away)
    monkeypatch.setattr(keys, "parse", parse)
    soon(lambda: not away())


def test_nobody_is_watched_for_when_nobody_asks_any_more(file):
    put(file, key()[1])
    before = set(threading.enumerate())
    seen = Watched([file], len)
    assert seen.now == 1
    (thread,) = set(threading.enumerate()) - before
    del seen
    thread.join(5)
    assert not thread.is_alive()


# The command


def test_a_key_is_made_listed_and_revoked_and_the_file_never_holds_it(file, capsys):
    assert main(["keys", "add", str(file), "camera", "--scope", "infer", "--scope", "read", "--days", "30"]) == 0
    text = capsys.readouterr().out.strip()
    assert text.startswith(keys.PREFIX)
    assert text[3:] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    known = keys.Keys(file)
    assert known.caller(text).scopes == {"infer", "read"}
    assert main(["keys", "add", str(file), "camera"]) == 0
    second = capsys.readouterr().out.strip()
    assert keys.Keys(file).caller(second).scopes == {"infer"}
    assert main(["keys", "list", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:4] for line in lines] == [["camera", "infer,read", "in"], ["camera", "infer", "in"]]
    assert main(["keys", "revoke", str(file), lines[1].split()[0]]) == 0
    assert not knows(keys.Keys(file), second)
    assert knows(keys.Keys(file), text)
    assert main(["keys", "revoke", str(file), "camera"]) == 0
    soon(lambda: not knows(known, text))
    capsys.readouterr()
    assert main(["keys", "revoke", str(file), "camera"]) == 1
    assert "no key in use" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["a b"], ["jwt:x"], [""], ["a", "--days", "0"], ["a", "--days", "-1"]])
def test_what_cannot_be_made_changes_no_file(file, arguments, capsys):
    assert main(["keys", "add", str(file), *arguments]) == 1
    assert not file.exists()
