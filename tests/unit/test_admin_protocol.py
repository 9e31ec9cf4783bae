"""The admin protocol: what is understood, and how everything else is answered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain._admin import protocol
from drain._admin.protocol import Command, ProtocolError, Request, Until, parse


def line(**fields: Any) -> bytes:
    return json.dumps({"version": 1, **fields}).encode()


def test_a_request_has_defaults() -> None:
    assert parse(line(command="drain")) == Request(
        Command.DRAIN, None, 1.0, "admin socket", Until.DRAINED, hold=True, announce=True
    )


def test_all_fields() -> None:
    asked = parse(
        line(command="drain", id="a", interval=2, reason="preStop", until="closing", hold=False, announce=False)
    )
    assert asked == Request(Command.DRAIN, "a", 2.0, "preStop", Until.CLOSING, hold=False, announce=False)


@pytest.mark.parametrize("command", list(Command))
def test_every_command(command: Command) -> None:
    assert parse(line(command=command.value)).command is command


def test_what_a_newer_client_adds_is_passed_over() -> None:
    assert parse(line(command="status", colour="blue", verbose={"a": 1})).command is Command.STATUS


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (b"", "usage", "is not JSON"),
        (b"status", "usage", "b'status' is not JSON"),
        (b"\xff\xfe", "usage", "is not JSON"),
        (b"[" * 60_000, "usage", "is not JSON"),
        (b"9" * 60_000, "usage", "is not JSON"),
        (b"[1]", "usage", "[1] is not an object"),
        (b"{}", "version", "version None is not spoken here. Send version 1."),
        (b'{"version": 2, "command": "status"}', "version", "version 2 is not spoken here. Send version 1."),
        (b'{"version": true, "command": "status"}', "version", "version True is not spoken here"),
        (line(), "usage", "command None is not known: give one of status, watch, rotate"),
        (line(command="stop"), "usage", "command 'stop' is not known: give one of status"),
        (line(command=["status"]), "usage", "command ['status'] is not known"),
        (line(command="watch", interval=0), "usage", "interval 0 is not known: give 0.05 to 3600 seconds"),
        (line(command="watch", interval="1s"), "usage", "interval '1s' is not known: give a number of seconds"),
        (line(command="watch", interval=True), "usage", "interval True is not known"),
        (b'{"version": 1, "command": "watch", "interval": NaN}', "usage", "interval nan is not known"),
        (line(command="drain", until="stopped"), "usage", "until 'stopped' is not known: give one of drained, closing"),
        (line(command="drain", hold="yes"), "usage", "hold 'yes' is not known: give true or false"),
        (line(command="drain", announce=None), "usage", "announce None is not known: give true or false"),
        (line(command="drain", reason=""), "usage", "reason '' is not known: give printable text of 1 to 200"),
        (line(command="drain", reason="a\nb"), "usage", "reason 'a\\nb' is not known"),
        (line(command="drain", reason="\x1b[2J"), "usage", "reason '\\x1b[2J' is not known"),
        (line(command="drain", reason="x" * 201), "usage", "is not known: give printable text of 1 to 200"),
        (line(command="status", id=1.5), "usage", "id 1.5 is not known"),
        (line(command="status", id="x" * 201), "usage", "is not known: give a whole number, or text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(sent: bytes, code: str, words: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse(sent)
    answer = json.loads(refused.value.answer)
    assert (answer["kind"], answer["ok"], answer["code"]) == ("end", False, code)
    assert words in answer["error"]
    assert len(answer["error"]) < 300  # a stranger's text is not echoed at length
    assert refused.value.answer.count(b"\n") == 1


def test_an_error_carries_the_id() -> None:
    with pytest.raises(ProtocolError) as refused:
        parse(line(command="stop", id=7))
    assert json.loads(refused.value.answer)["id"] == 7


@given(st.one_of(st.binary(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(),
       lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(lambda raw: json.dumps(raw).encode()),
       st.fixed_dictionaries({"version": st.just(1), "command": st.sampled_from([c.value for c in Command])},
                             optional={name: st.none() | st.integers() | st.text() | st.lists(st.integers())
                                       for name in ("id", "interval", "reason", "until", "hold", "announce")})
       .map(lambda raw: json.dumps(raw).encode())))  # fmt: skip
def test_whatever_comes_is_a_request_or_one_line_of_error(sent: bytes) -> None:
    error: ProtocolError | None = None
    try:
        assert isinstance(parse(sent), Request)
    except ProtocolError as refused:
        error = refused
    if error is not None:
        assert json.loads(error.answer)["ok"] is False
        assert error.answer.count(b"\n") == 1


def test_answers_are_lines() -> None:
    lines = [
        protocol.status(7, "worker", [{"state": "serving"}], worker=2),
        protocol.phase(0, "announcing", 27.9, 3, worker=1),
        protocol.report(0, {"clean": True}),
        protocol.done(connections=4),
        protocol.failed(protocol.Code.FAILED, "two\nlines", 3, connections=0),
    ]
    assert [json.loads(each) for each in lines] == [
        {"kind": "status", "version": 1, "pid": 7, "role": "worker", "worker": 2, "servers": [{"state": "serving"}]},
        {"kind": "phase", "id": 3, "server": 0, "state": "announcing", "time_left": 27.9, "worker": 1},
        {"kind": "report", "server": 0, "report": {"clean": True}},
        {"kind": "end", "ok": True, "connections": 4},
        {"kind": "end", "id": 3, "ok": False, "error": "two lines", "code": "failed", "connections": 0},
    ]
    assert all(each.endswith(b"\n") and each.count(b"\n") == 1 for each in lines)
