from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.access.duties import may_approve, party_of
from domain.actors import SYSTEM, Actor

ANN, BOB, EVE, BOT, SUB = (UUID(int=number) for number in range(1, 6))

IDS = st.sampled_from([ANN, BOB, EVE, BOT, SUB])
ACTORS = st.builds(
    Actor,
    user_id=IDS,
    name=st.just("somebody"),
    kind=st.sampled_from(["user", "agent", "service"]),
    rights_of=st.none() | IDS,
    on_behalf_of=st.lists(IDS, max_size=3, unique=True).map(tuple),
)
RESPONSIBLE = st.dictionaries(IDS, IDS, max_size=4)


def test_nobody_approves_their_own_request() -> None:
    ann = Actor(user_id=ANN, name="ann")
    verdict = may_approve(ann, ann)
    assert not verdict.allowed
    assert verdict.reason.startswith("ann asked for it")


def test_an_agent_that_acts_for_the_requester_counts_as_the_requester() -> None:
    ann, bob = Actor(user_id=ANN, name="ann"), Actor(user_id=BOB, name="bob")
    exchanged = Actor(user_id=BOT, name="bot", kind="agent", rights_of=ANN, on_behalf_of=(ANN,))
    lent = Actor(user_id=BOT, name="bot", kind="agent", on_behalf_of=(ANN,))
    sub_agent = Actor(user_id=SUB, name="sub", kind="agent", rights_of=ANN, on_behalf_of=(BOT, ANN))
    for agent in (exchanged, lent, sub_agent):
        assert not may_approve(agent, ann).allowed
        assert not may_approve(ann, agent).allowed
        assert may_approve(bob, agent).allowed
        assert may_approve(agent, bob).allowed
    assert not may_approve(exchanged, sub_agent).allowed


def test_an_agent_counts_as_the_person_who_answers_for_it() -> None:
    ann, bot, sub = (Actor(user_id=one, name="x") for one in (ANN, BOT, SUB))
    responsible = {BOT: ANN, SUB: BOT}
    assert may_approve(bot, ann).allowed
    assert not may_approve(bot, ann, responsible=responsible).allowed
    assert not may_approve(sub, ann, responsible=responsible).allowed


def test_the_platform_approves_nothing() -> None:
    assert not may_approve(SYSTEM, Actor(user_id=ANN, name="ann")).allowed


def test_a_second_approval_is_somebody_elses() -> None:
    ann, bob, eve = (Actor(user_id=one, name=name) for one, name in ((ANN, "ann"), (BOB, "bob"), (EVE, "eve")))
    for_bob = Actor(user_id=BOT, name="bot", kind="agent", on_behalf_of=(BOB,))
    assert may_approve(eve, ann, earlier=[bob]).allowed
    assert not may_approve(for_bob, ann, earlier=[eve, bob]).allowed


@given(ACTORS, ACTORS, RESPONSIBLE)
def test_what_is_allowed_has_nobody_in_common(approver: Actor, requester: Actor, responsible: dict[UUID, UUID]) -> None:
    verdict = may_approve(approver, requester, responsible=responsible)
    common = party_of(approver, responsible=responsible) & party_of(requester, responsible=responsible)
    assert verdict.allowed == (not common)
    assert verdict.allowed == may_approve(requester, approver, responsible=responsible).allowed
    if verdict.allowed:
        assert approver.user_id not in {requester.user_id, requester.subject_id, *requester.on_behalf_of}
        assert requester.user_id not in {approver.user_id, approver.subject_id, *approver.on_behalf_of}


@given(ACTORS, ACTORS, IDS, RESPONSIBLE)
def test_a_longer_chain_never_allows_more(
    approver: Actor, requester: Actor, lender: UUID, responsible: dict[UUID, UUID]
) -> None:
    if may_approve(approver.acting_for((lender,)), requester, responsible=responsible).allowed:
        assert may_approve(approver, requester, responsible=responsible).allowed


@given(ACTORS, RESPONSIBLE)
def test_a_party_holds_the_whole_chain_and_who_answers_for_it(actor: Actor, responsible: dict[UUID, UUID]) -> None:
    party = party_of(actor, responsible=responsible)
    assert {actor.user_id, actor.subject_id, *actor.on_behalf_of} <= party
    assert {responsible[one] for one in party if one in responsible} <= party
