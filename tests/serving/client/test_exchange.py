"""What a client sends, and sends again: its steps taken by hand, without sockets and without waiting."""

from __future__ import annotations

import json

import pytest

from serving.client import exchange
from serving.client.asking import Body
from serving.client.exchange import Broken, EventReader, NotSent, Outgoing, Pause, Received, ServerTerms
from serving.errors import CertserveError, Internal, InvalidInput, Overloaded, Unavailable
from tests.serving.client.documents import ROW

DONE = Received(200, {}, json.dumps({"predictions": [ROW]}).encode())
BODY = Body(b"x", "image/png", 1)


def refused(status, hint=None):
    return Received(status, {} if hint is None else {"retry-after": hint}, b'{"error": "no"}')


def taken(*outcomes, retries=2, **options):
    """The result, or the error, of a prediction whose requests have these outcomes in turn, and the steps taken."""
    terms = ServerTerms(url="http://server", timeout_s=30.0, retries=retries)
    steps, left, seen = exchange.predictions(terms, "m", None, BODY, options), list(outcomes), []
    outcome = None
    try:
        step = next(steps)
        while True:
            seen.append(step)
            outcome = None if isinstance(step, Pause) else left.pop(0)
            step = steps.throw(outcome) if isinstance(outcome, Exception) else steps.send(outcome)
    except StopIteration as end:
        return end.value, seen
    except CertserveError as error:
        return error, seen


def pauses(steps):
    return [step.seconds for step in steps if isinstance(step, Pause)]


def test_an_answer_at_once_is_one_request_with_the_options_in_its_query():
    found, (sent,) = taken(DONE, target_radius=0.5, receipt=None, snap=True, outputs=["ood", "mixture"])
    assert found["predictions"] == [ROW]
    assert (sent.method, sent.path) == ("POST", "/v1/models/m:predict")
    assert sent.query == {"target_radius": "0.5", "snap": "true", "outputs": "ood,mixture"}


@pytest.mark.parametrize("status", [429, 503])
def test_what_was_refused_for_now_is_sent_again_after_the_time_that_the_server_names(status):
    found, steps = taken(refused(status, "3"), refused(status, "1"), DONE)
    assert (found["predictions"], pauses(steps)) == ([ROW], [3.0, 1.0])


def test_what_never_left_is_sent_again():
    found, steps = taken(NotSent("refused"), DONE)
    assert (found["predictions"], len(pauses(steps))) == ([ROW], 1)


@pytest.mark.parametrize(
    "outcome", [Broken("reset"), refused(429), refused(503), *map(refused, (400, 401, 404, 500, 502, 504))]
)
def test_nothing_else_is_sent_again(outcome):
    """Neither what may have been worked on, nor a refusal that does not say when to come back."""
    found, steps = taken(outcome, DONE)
    assert isinstance(found, CertserveError)
    assert len(steps) == 1


def test_a_refusal_with_a_hint_of_another_status_is_not_sent_again():
    found, steps = taken(refused(500, "1"), DONE)
    assert (type(found), len(steps)) == (Internal, 1)


def test_after_the_last_attempt_the_refusal_is_raised_with_its_hint():
    found, steps = taken(*[refused(429, "2")] * 3)
    assert (type(found), found.retry_after_s, pauses(steps)) == (Overloaded, 2.0, [2.0, 2.0])
    found, steps = taken(refused(429, "2"), retries=0)
    assert (type(found), len(steps)) == (Overloaded, 1)


def test_no_pause_goes_beyond_the_time_of_the_request():
    found, steps = taken(refused(503, "31"), DONE)
    assert (type(found), pauses(steps)) == (Unavailable, [])
    found, steps = taken(refused(503, "10"), DONE, deadline_ms=4_000)
    assert (type(found), pauses(steps)) == (Unavailable, [])


def test_a_request_that_is_sent_again_has_what_is_left_of_its_time():
    _, steps = taken(refused(503, "2"), DONE, deadline_ms=8_000)
    first, second = (step for step in steps if isinstance(step, Outgoing))
    assert (first.timeout_s, second.timeout_s) == (13.0, 11.0)
    assert (first.query["deadline_ms"], second.query["deadline_ms"]) == ("8000", "6000")


def test_an_option_that_does_not_exist_is_refused_before_anything_is_sent():
    found, steps = taken(DONE, radius=1)
    assert isinstance(found, InvalidInput)
    assert "target_radius" in found.message
    assert not steps


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"<html>", b'{"predictions": []}', b'{"predictions": [1]}', b'{"x": 1}']
)
def test_an_answer_of_another_server_is_said_to_be_one(content):
    found, _ = taken(Received(200, {}, content))
    assert "is it a certserve server" in found.message


def test_a_receipt_that_was_asked_for_has_to_be_there():
    assert "certserve server" in taken(DONE, receipt=True)[0].message


def lines(kind, row, radius=None):
    prediction = ROW if radius is None else {**ROW, "certificate": {**ROW["certificate"], "radius": radius}}
    return [f"event: {kind}", "id: 3", f"data: {json.dumps({'row': row, 'rows': 2, 'prediction': prediction})}", ""]


def read(text):
    reader = EventReader(ServerTerms(url="http://server", timeout_s=1, retries=0))
    return [event for line in text if (event := reader.line(line))]


def test_events_keep_the_best_radius_of_their_row_where_a_later_one_is_smaller():
    text = [
        ":",
        "",
        *lines("certificate", 0, 0.5),
        *lines("certificate", 1, 0.1),
        *lines("certificate", 0, 0.4),
        *lines("final", 1),
    ]
    found = read(text)
    assert [(each.kind, each.row) for each in found] == [
        ("certificate", 0),
        ("certificate", 1),
        ("certificate", 0),
        ("final", 1),
    ]
    assert [each.best_radius for each in found] == [0.5, 0.1, 0.5, max(0.1, ROW["certificate"]["radius"])]
    assert found[2].prediction.certificate.radius == 0.4


def test_an_error_in_the_stream_is_raised_as_what_it_is():
    with pytest.raises(Unavailable, match="stopping"):
        read(["event: error", 'data: {"error": "stopping", "status": 503}', ""])
    for damaged in ("data: [", "data: 3", 'data: {"row": 0}', 'data: {"row": 0, "prediction": 4}'):
        with pytest.raises(Internal, match="certserve server"):
            read([damaged, ""])
