"""One ADS stream's bookkeeping: every case of the protocol, and any interleaving of requests, changes and lost answers.

Over 300 lines: every case of one protocol, and the machine that mixes them.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drain._core.subscription import (
    MOST_NAMES,
    MOST_TYPES,
    MOST_UNANSWERED,
    PATIENCE,
    Heard,
    StreamError,
    Subscription,
)

LDS, EDS = "type/lds", "type/eds"


def names(*given: str) -> frozenset[str]:
    return frozenset(given)


def asked(*given: str, type_url: str = LDS) -> Subscription:
    """A stream that has asked for these, and was answered at time 0 by response 1."""
    subscription = Subscription()
    subscription.hear(type_url, given, "", None)
    assert subscription.responded(type_url, 0.0) == 1
    return subscription


# -- requests --------------------------------------------------------------------------------------------------------


def test_the_first_request_of_a_type_wants_a_response() -> None:
    subscription = Subscription()
    assert subscription.hear(LDS, ["a"], "", None) == Heard(respond=True, added=names("a"))
    assert subscription.names(LDS) == names("a")
    assert subscription.due(0.0) == [LDS]


def test_an_ack_answers_and_wants_nothing() -> None:
    assert asked("a").hear(LDS, ["a"], "1", None) == Heard(answered=1)


def test_a_nack_answers_and_says_why() -> None:
    assert asked("a").hear(LDS, ["a"], "1", "no good") == Heard(answered=1, refused="no good")


@pytest.mark.parametrize("error", [None, "no good"])
def test_the_same_answer_twice_counts_once(error: str | None) -> None:
    subscription = asked("a")
    subscription.hear(LDS, ["a"], "1", error)
    assert subscription.hear(LDS, ["a"], "1", error) == Heard()


def test_an_ack_that_adds_a_name_wants_a_response() -> None:
    subscription = asked("a")
    assert subscription.hear(LDS, ["a", "b"], "1", None) == Heard(respond=True, answered=1, added=names("b"))


def test_a_nack_that_adds_a_name_is_both() -> None:
    heard = asked("a").hear(LDS, ["a", "b"], "1", "no good")
    assert heard == Heard(respond=True, answered=1, refused="no good", added=names("b"))


def test_a_request_that_only_drops_names_wants_no_response() -> None:
    subscription = asked("a", "b")
    assert subscription.hear(LDS, ["b"], "1", None) == Heard(answered=1, removed=names("a"))
    assert subscription.names(LDS) == names("b")


def test_dropping_all_and_asking_again_wants_a_response() -> None:
    subscription = asked("a")
    assert subscription.hear(LDS, [], "1", None) == Heard(answered=1, removed=names("a"))
    assert subscription.hear(LDS, ["a"], "1", None) == Heard(respond=True, added=names("a"))


def test_a_second_request_may_come_before_the_first_response() -> None:
    subscription = Subscription()
    subscription.hear(LDS, ["a"], "", None)
    assert subscription.hear(LDS, ["a", "b"], "", None) == Heard(respond=True, added=names("b"))


def test_a_request_without_nonce_after_a_response_was_sent_counts() -> None:
    """It was sent before the response arrived."""
    assert asked("a").hear(LDS, ["a", "b"], "", None) == Heard(respond=True, added=names("b"))


def test_names_in_a_stale_request_do_not_count_but_its_answer_does() -> None:
    subscription = asked("a")
    subscription.responded(LDS, 1.0)
    assert subscription.hear(LDS, ["a", "b"], "1", None) == Heard(answered=1, stale=True)
    assert subscription.names(LDS) == names("a")
    assert subscription.hear(LDS, ["a", "b"], "2", None) == Heard(respond=True, answered=2, added=names("b"))


def test_a_stale_nack_is_a_nack() -> None:
    subscription = asked("a")
    subscription.responded(LDS, 1.0)
    assert subscription.hear(LDS, ["a"], "1", "no good") == Heard(answered=1, refused="no good", stale=True)


def test_an_answer_answers_all_before_it() -> None:
    subscription = asked("a")
    subscription.responded(LDS, 1.0)
    assert subscription.hear(LDS, ["a"], "2", None).answered == 2
    assert subscription.hear(LDS, ["a"], "1", None) == Heard(stale=True)


@pytest.mark.parametrize("nonce", ["0", "2", "x", "01", "-1", "1 ", "9" * 5000])
def test_a_nonce_that_was_never_sent_is_stale(nonce: str) -> None:
    assert asked("a").hear(LDS, ["b"], nonce, "no good") == Heard(stale=True)


def test_the_nonce_of_another_type_is_stale_and_answers_nothing() -> None:
    subscription = asked("a")
    subscription.hear(EDS, ["e"], "", None)
    assert subscription.responded(EDS, 0.0) == 2
    assert subscription.hear(EDS, ["e"], "1", None) == Heard(stale=True)
    assert subscription.hear(LDS, ["a"], "1", None) == Heard(answered=1)
    assert subscription.hear(EDS, ["e"], "2", None) == Heard(answered=2)


def test_a_nonce_is_never_used_twice() -> None:
    subscription = asked("a")
    subscription.hear(EDS, ["e"], "", None)
    assert [subscription.responded(url, 0.0) for url in (EDS, LDS, EDS)] == [2, 3, 4]


def test_everything_is_what_ends_with_the_stream() -> None:
    subscription = asked("a", "b")
    subscription.hear(EDS, ["e"], "", None)
    assert dict(subscription.everything) == {LDS: names("a", "b"), EDS: names("e")}


# -- what is due -----------------------------------------------------------------------------------------------------


def test_a_change_is_due_to_those_who_ask_only() -> None:
    subscription = asked("a")
    subscription.hear(LDS, ["a"], "1", None)
    subscription.owe(EDS)
    assert (subscription.due(0.0), subscription.due_at) == ([], None)
    subscription.owe(LDS)
    assert subscription.due(0.0) == [LDS]


def test_a_change_is_not_due_once_nothing_is_asked_for() -> None:
    subscription = asked("a")
    subscription.hear(LDS, [], "1", None)
    subscription.owe(LDS)
    assert subscription.due(1e9) == []


@pytest.mark.parametrize("error", [None, "no good"])
def test_the_next_response_waits_for_the_answer(error: str | None) -> None:
    subscription = asked("a")
    subscription.owe(LDS)
    assert subscription.due(PATIENCE / 2) == []
    subscription.hear(LDS, ["a"], "1", error)
    assert subscription.due(PATIENCE / 2) == [LDS]


def test_it_does_not_wait_for_ever() -> None:
    subscription = asked("a")
    subscription.owe(LDS)
    assert subscription.due_at == PATIENCE
    assert subscription.due(PATIENCE) == [LDS]


def test_one_type_does_not_wait_for_the_answer_to_another() -> None:
    subscription = asked("a")
    subscription.hear(EDS, ["e"], "", None)
    assert subscription.due(0.0) == [EDS]


def test_any_number_of_changes_is_one_response() -> None:
    subscription = asked("a")
    subscription.hear(LDS, ["a"], "1", None)
    for _ in range(1000):
        subscription.owe(LDS)
    subscription.responded(LDS, 1.0)
    subscription.hear(LDS, ["a"], "2", None)
    assert subscription.due(1e9) == []


def test_passing_leaves_nothing_due() -> None:
    subscription = Subscription()
    subscription.hear(EDS, ["e"], "", None)
    subscription.passed(EDS)
    assert subscription.due(1e9) == []
    subscription.owe(EDS)
    assert subscription.due(0.0) == [EDS]


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_too_many_names_are_refused_and_nothing_changes() -> None:
    subscription = asked("a")
    with pytest.raises(StreamError, match=f"{MOST_NAMES + 1} resource names"):
        subscription.hear(LDS, [str(number) for number in range(MOST_NAMES + 1)], "1", None)
    assert subscription.names(LDS) == names("a")
    assert subscription.hear(LDS, ["a"], "1", None) == Heard(answered=1)


def test_the_names_of_all_types_count_together() -> None:
    subscription = Subscription()
    half = [str(number) for number in range(MOST_NAMES // 2)]
    subscription.hear(LDS, half, "", None)
    subscription.hear(EDS, half, "", None)
    subscription.hear(EDS, half[:-1], "", None)
    with pytest.raises(StreamError):
        subscription.hear("type/cds", ["x", "y"], "", None)


def test_a_name_that_is_given_twice_counts_once() -> None:
    subscription = Subscription()
    assert subscription.hear(LDS, ["a"] * (MOST_NAMES + 1), "", None).added == names("a")


def test_too_many_types_are_refused() -> None:
    subscription = Subscription()
    for number in range(MOST_TYPES):
        subscription.hear(f"type/{number}", ["a"], "", None)
    with pytest.raises(StreamError):
        subscription.hear("type/more", ["a"], "", None)
    subscription.hear("type/0", ["b"], "", None)


def test_who_answers_nothing_is_refused_at_last() -> None:
    subscription = asked("a")
    for number in range(2, MOST_UNANSWERED + 1):
        assert subscription.responded(LDS, float(number)) == number
    with pytest.raises(StreamError, match="unanswered"):
        subscription.responded(LDS, 1e9)


# -- any interleaving ------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """One type, seen from grpc: what it wants, what it knows, the last nonce it has seen."""

    wants: frozenset[str] = frozenset()
    knows: dict[str, int] = field(default_factory=dict)
    nonce: str = ""


@dataclass(frozen=True)
class Request:
    type_url: str
    names: frozenset[str]
    nonce: str
    error: str | None = None


@dataclass(frozen=True)
class Response:
    type_url: str
    number: int
    resources: dict[str, int]


class Conversation(RuleBasedStateMachine):
    """A server that is a Subscription, a client that follows the protocol, and a wire that delivers in order, but late.

    The claim: whatever happens on the way, when all is delivered the client knows the newest of everything it wants; every
    response counts as answered once at most; and no answer to one type is taken for an answer to another.
    """

    urls = st.sampled_from([LDS, EDS])

    def __init__(self) -> None:
        super().__init__()
        self.subscription = Subscription()
        self.world = dict.fromkeys("abc", 0)
        self.clients = {LDS: Client(), EDS: Client()}
        self.to_server: deque[Request] = deque()
        self.to_client: deque[Response] = deque()
        self.now = 0.0
        self.types_of: dict[int, str] = {}
        self.answered: set[int] = set()

    def send(self, type_url: str, error: str | None = None) -> None:
        client = self.clients[type_url]
        self.to_server.append(Request(type_url, client.wants, client.nonce, error))

    def serve(self) -> None:
        for type_url in self.subscription.due(self.now):
            number = self.subscription.responded(type_url, self.now)
            self.types_of[number] = type_url
            told = {name: self.world[name] for name in self.subscription.names(type_url)}
            self.to_client.append(Response(type_url, number, told))

    def read(self, *, answer: bool = True, error: str | None = None) -> None:
        response = self.to_client.popleft()
        client = self.clients[response.type_url]
        client.nonce = str(response.number)
        if error is None:
            client.knows.update({name: told for name, told in response.resources.items() if name in client.wants})
        if answer:
            self.send(response.type_url, error)

    @rule(type_url=urls, wants=st.frozensets(st.sampled_from("abc")))
    def want(self, type_url: str, wants: Iterable[str]) -> None:
        client = self.clients[type_url]
        client.wants = frozenset(wants)
        client.knows = {name: known for name, known in client.knows.items() if name in client.wants}
        self.send(type_url)

    @rule(name=st.sampled_from("abc"))
    def change(self, name: str) -> None:
        self.world[name] += 1
        for url in self.clients:
            self.subscription.owe(url)

    @rule()
    def serve_now(self) -> None:
        self.serve()

    @rule(seconds=st.sampled_from([0.01, PATIENCE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.to_server)
    @rule()
    def hear(self) -> None:
        request = self.to_server.popleft()
        heard = self.subscription.hear(request.type_url, request.names, request.nonce, request.error)
        if heard.answered is not None:
            assert self.types_of[heard.answered] == request.type_url
            settled = {n for n, url in self.types_of.items() if url == request.type_url and n <= heard.answered}
            assert heard.answered not in self.answered
            self.answered |= settled

    @precondition(lambda self: self.to_client)
    @rule()
    def take(self) -> None:
        self.read()

    @precondition(lambda self: self.to_client)
    @rule()
    def refuse(self) -> None:
        self.read(error="no good")

    @precondition(lambda self: sum(r.type_url == self.to_client[0].type_url for r in self.to_client) > 1)
    @rule()
    def skip(self) -> None:
        """A newer response of this type is there already: the client answers that one."""
        self.read(answer=False)

    @precondition(
        lambda self: (
            self.to_client
            and not self.to_server
            and self.clients[self.to_client[0].type_url].wants == self.subscription.names(self.to_client[0].type_url)
        )
    )
    @rule()
    def lose(self) -> None:
        """The answer never comes (and brought no new names)."""
        self.read(answer=False)

    @invariant()
    def names_agree_when_nothing_is_under_way(self) -> None:
        if not self.to_server and not self.to_client:
            for type_url, client in self.clients.items():
                assert self.subscription.names(type_url) == client.wants

    def teardown(self) -> None:
        for url in self.clients:  # what was refused last is put right
            self.subscription.owe(url)
        for _ in range(100):
            while self.to_server:
                self.hear()
            self.now += PATIENCE
            self.serve()
            while self.to_client:
                self.read()
            if not self.to_server and self.subscription.due_at is None:
                break
        else:
            raise AssertionError("they never stop talking")
        for type_url, client in self.clients.items():
            assert client.knows == {name: self.world[name] for name in client.wants}, type_url


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
