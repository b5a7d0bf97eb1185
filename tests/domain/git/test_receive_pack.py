import pytest

from domain.errors import InvalidInput, TooLarge
from domain.git.pkt_line import FLUSH, PktLineReader, Special, encode
from domain.git.receive_pack import (
    COMMANDS_MAX,
    PUSH_OPTIONS_MAX,
    AnswerTap,
    PushHead,
    PushHeadReader,
    RefUpdate,
    refusal_answer,
    refusals,
    terminal_lines,
)
from domain.git.refs import ZERO_SHA

A, B = "a" * 40, "b" * 40


def command(old: str = A, new: str = B, ref: str = "refs/heads/x", capabilities: str = "") -> bytes:
    line = f"{old} {new} {ref}".encode()
    return encode(line + (b"\0" + capabilities.encode() if capabilities else b""))


def read(data: bytes) -> PushHead | None:
    return PushHeadReader().feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"zzzz",
        encode(b"hello"),
        encode(b"a b refs/heads/x"),
        encode(f"{A} {B} ".encode()),
        encode(f"{A} {B}".encode()),
        encode(f"{A.upper()} {B} refs/heads/x".encode()),
        command(ZERO_SHA, ZERO_SHA),
        b"0001",
        command() + command() + FLUSH,
        command(capabilities="push-options") + FLUSH + encode(b"a\0b") + FLUSH,
    ],
)
def test_what_is_no_push_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(data)


def test_too_many_refs_or_options_are_refused() -> None:
    with pytest.raises(TooLarge):
        read(b"".join(command(ref=f"refs/heads/{number}") for number in range(COMMANDS_MAX + 1)) + FLUSH)
    with pytest.raises(TooLarge):
        read(command(capabilities="push-options") + FLUSH + encode(b"o") * (PUSH_OPTIONS_MAX + 1) + FLUSH)
    with pytest.raises(TooLarge):
        read(command(capabilities="push-options") + FLUSH + encode(b"o" * 2000) + FLUSH)


def test_a_head_is_read_in_any_pieces_and_every_byte_is_kept_for_git() -> None:
    data = (
        encode(f"shallow {A}".encode())
        + command(ZERO_SHA, B, "refs/heads/new", "report-status side-band-64k push-options agent=git/2")
        + command(A, ZERO_SHA, "refs/tags/old")
        + FLUSH
        + encode(b"ci.skip")
        + FLUSH
        + b"PACK..."
    )
    for step in (1, 3, 7, len(data)):
        reader, head = PushHeadReader(), None
        for start in range(0, len(data), step):
            head = head or reader.feed(data[start : start + step])
            if head:
                break
        assert head is not None
        assert data.startswith(reader.taken)
        assert head.push_options == ("ci.skip",)
        assert head.has_sideband
        assert [update.ref for update in head.updates] == ["refs/heads/new", "refs/tags/old"]


def test_the_parts_of_a_head() -> None:
    head = read(
        command(ZERO_SHA, B, "refs/heads/n", "report-status side-band-64k push-options")
        + FLUSH
        + encode(b"o\n")
        + FLUSH
    )
    assert head is not None
    assert head.updates == (RefUpdate(ZERO_SHA, B, "refs/heads/n"),)
    assert head.updates[0].creates
    assert not head.updates[0].deletes
    assert head.has_sideband
    assert head.wants_report
    assert head.push_options == ("o",)


def test_a_flush_alone_asks_for_nothing() -> None:
    assert read(FLUSH) == PushHead((), frozenset(), ())


def test_refusals_name_what_is_at_fault_only() -> None:
    updates = [
        RefUpdate(A, B, "refs/heads/fine"),
        RefUpdate(A, B, "refs/heads/a..b"),
        RefUpdate(A, B, "refs/notes/x"),
        RefUpdate(A, ZERO_SHA, "refs/heads/main"),
        RefUpdate(A, ZERO_SHA, "refs/heads/other"),
    ]
    found = refusals(updates, default_branch="main")
    assert set(found) == {"refs/heads/a..b", "refs/notes/x", "refs/heads/main"}
    assert "protected" in found["refs/heads/main"]


def packets(data: bytes) -> list[bytes | Special]:
    reader, seen = PktLineReader(), []
    reader.feed(data)
    while (packet := reader.next()) is not None:
        seen.append(packet)
    assert reader.rest() == b""
    return seen


@pytest.mark.parametrize("sideband", ["", "side-band", "side-band-64k"])
def test_a_refusal_is_a_report_that_git_can_read(sideband: str) -> None:
    head = read(command(capabilities=f"report-status {sideband}") + command(ref="refs/heads/y") + FLUSH)
    assert head is not None
    seen = packets(refusal_answer(head, {"refs/heads/x": "because"}, notes=["told"]))
    if sideband:
        assert seen[0] == b"\x02Perdure: told\n"
        assert seen[-1] is Special.FLUSH
        inner = b"".join(one[1:] for one in seen[1:-1] if isinstance(one, bytes) and one[0] == 1)
        seen = packets(inner)
    assert seen == [
        b"unpack ok\n",
        b"ng refs/heads/x because\n",
        b"ng refs/heads/y refused together with refs/heads/x\n",
        Special.FLUSH,
    ]


def test_text_is_put_before_the_last_flush_and_nothing_else_changes() -> None:
    head = read(command(capabilities="report-status side-band-64k") + FLUSH)
    assert head is not None
    answer = encode(b"\x02progress") + encode(b"\x01" + encode(b"unpack ok\n") + FLUSH) + FLUSH
    for step in (1, 5, len(answer)):
        tap = AnswerTap(head)
        passed = b"".join(tap.pass_on(answer[start : start + step]) for start in range(0, len(answer), step))
        assert passed == answer[:-4]
        assert passed + tap.end([]) == answer
    tap = AnswerTap(head)
    assert tap.pass_on(answer) + tap.end(["a", "b"]) == answer[:-4] + encode(b"\x02Perdure: a\nPerdure: b\n") + FLUSH


def test_an_answer_that_broke_off_is_not_completed() -> None:
    head = read(command(capabilities="side-band-64k") + FLUSH)
    assert head is not None
    tap = AnswerTap(head)
    whole = encode(b"\x02progress")
    assert tap.pass_on(whole + b"00") == whole
    assert tap.end(["note"]) == b"00"


def test_without_side_bands_nothing_is_put_in() -> None:
    head = read(command(capabilities="report-status") + FLUSH)
    assert head is not None
    tap = AnswerTap(head)
    assert tap.pass_on(encode(b"unpack ok\n") + FLUSH) + tap.end(["note"]) == encode(b"unpack ok\n") + FLUSH


def test_no_control_character_reaches_the_terminal() -> None:
    assert terminal_lines(["a\x1b[31mred\tb\nc\r"]) == b"Perdure: a [31mred b\nPerdure: c \n"
    assert terminal_lines([]) == b""
