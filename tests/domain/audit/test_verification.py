import dataclasses
import json

import pytest

from domain.audit.canonical import canonical
from domain.audit.chain import Problem, Tampering
from domain.audit.checkpoints import SignedCheckpoint
from domain.audit.export_file import Header, end_line, verify_lines
from domain.audit.rows import Row
from domain.audit.verification import Noted, verify
from tests.domain.audit.chains import BEGAN, KEY, OTHER_KEY, Chains, edited, lines_of, row


def written() -> Chains:
    """Two checkpoints in, three rows after them: 1-4 and 5-8 signed in log 3, 9-11 only chained; log 5 beside it."""
    chains = Chains().write(4).write(2, log=5).checkpoint().write(4).write(1, log=5).checkpoint()
    return chains.write(3).write(1, log=5)


def found(chains: Chains) -> Problem:
    problem = chains.report().first
    assert problem is not None
    return problem


def told(chains: Chains) -> tuple[str, int | None, int | None]:
    problem = found(chains)
    return (problem.what.value, problem.log, problem.seq)


def test_a_log_that_nobody_touched_is_whole() -> None:
    report = written().report()
    assert report.problems == ()
    assert (report.rows, report.signed_rows, report.checkpoints) == (15, 11, 2)
    assert Chains().report().problems == ()
    assert Chains().checkpoint().report().problems == ()


@pytest.mark.parametrize("seq", [1, 4, 5, 8, 9, 11])
def test_a_changed_row_is_named(seq: int) -> None:
    chains = written()
    chains.rows[3][seq - 1] = edited(chains.rows[3][seq - 1])
    assert told(chains) == ("changed", 3, seq)
    assert found(chains).row_id == json.loads(chains.rows[3][seq - 1].content)["act"]["id"]


@pytest.mark.parametrize("seq", [1, 4, 6, 8])
def test_a_changed_row_with_a_fitting_hash_is_named_by_its_checkpoint(seq: int) -> None:
    chains = written()
    chains.rows[3][seq - 1] = edited(chains.rows[3][seq - 1], rehash=True)
    assert told(chains) == ("changed", 3, seq)


@pytest.mark.parametrize("seq", [1, 4, 6, 8])
def test_a_log_that_was_rewritten_with_every_hash_anew_is_named_at_its_first_change(seq: int) -> None:
    chains = written()
    chains.rows[3][seq - 1] = edited(chains.rows[3][seq - 1])
    chains.recompute(3, seq - 1)
    assert told(chains) == ("changed", 3, seq)
    assert "computed anew" in found(chains).text


def test_a_change_after_the_last_checkpoint_is_seen_by_the_row_after() -> None:
    chains = written()
    chains.rows[3][9] = edited(chains.rows[3][9], rehash=True)
    assert told(chains) == ("changed", 3, 10)
    # What nobody signed yet can be rewritten as a whole; the next checkpoint ends that.
    chains = written()
    chains.rows[3][9] = edited(chains.rows[3][9])
    chains.recompute(3, 9)
    assert chains.report().problems == ()


@pytest.mark.parametrize("seq", [1, 4, 5, 8, 9, 10])
def test_a_removed_row_is_named(seq: int) -> None:
    chains = written()
    del chains.rows[3][seq - 1]
    assert told(chains) == ("removed", 3, seq)


def test_many_removed_rows_are_told_with_their_numbers() -> None:
    chains = written()
    del chains.rows[3][1:6]
    assert "the rows 2 to 6 were removed" in found(chains).text
    chains = written()
    chains.rows[3].clear()
    assert told(chains) == ("removed", 3, 1)


@pytest.mark.parametrize("seq", [1, 5, 8])
def test_a_removed_row_with_every_hash_anew_is_named_by_its_checkpoint(seq: int) -> None:
    chains = written()
    del chains.rows[3][seq - 1]
    chains.recompute(3, seq - 1)
    assert told(chains)[1:] == (3, seq)


@pytest.mark.parametrize("left", [0, 3, 7])
def test_rows_cut_off_at_the_end_are_named_once_a_checkpoint_has_signed_them(left: int) -> None:
    chains = written()
    del chains.rows[3][left:]
    assert told(chains) == ("removed", 3, left + 1)
    assert "known to have gone on to row 8" in found(chains).text


def test_rows_cut_off_after_the_last_checkpoint_are_known_after_the_next() -> None:
    chains = written()
    cut = chains.rows[3].pop()
    assert chains.report().problems == ()
    chains.rows[3].append(cut)
    chains.checkpoint()
    chains.rows[3].pop()
    assert told(chains) == ("removed", 3, 11)


@pytest.mark.parametrize("seq", [1, 3, 5, 9])
def test_an_inserted_row_is_named(seq: int) -> None:
    chains = written()
    before = chains.rows[3][seq - 2].hash if seq > 1 else "0" * 64
    forged = row(3, seq, before, "test:forged", number=9999)
    chains.rows[3].insert(seq - 1, forged)
    assert told(chains) == ("inserted", 3, seq)
    assert found(chains).row_id == json.loads(forged.content)["act"]["id"]


@pytest.mark.parametrize("seq", [2, 6])
def test_an_inserted_row_with_every_hash_anew_is_named_by_its_checkpoint(seq: int) -> None:
    chains = written()
    chains.rows[3].insert(seq - 1, row(3, seq, "0" * 64, "test:forged", number=9999))
    chains.recompute(3, seq - 1)
    assert told(chains)[1:] == (3, seq)


def test_a_row_put_in_at_the_end_is_named_when_the_next_one_comes() -> None:
    chains = written()
    chains.rows[3].append(row(3, 11, chains.rows[3][9].hash, "test:forged", number=9999))
    assert told(chains) == ("inserted", 3, 11)


@pytest.mark.parametrize("seq", [1, 4, 7, 9])
def test_reordered_rows_are_named(seq: int) -> None:
    chains = written()
    rows = chains.rows[3]
    rows[seq - 1], rows[seq] = rows[seq], rows[seq - 1]
    assert told(chains) == ("reordered", 3, seq + 1)
    assert f"before row {seq}" in found(chains).text


def test_a_row_moved_far_is_reordered_too() -> None:
    chains = written()
    chains.rows[3].append(chains.rows[3].pop(1))
    assert told(chains) == ("reordered", 3, 3)


def test_the_first_row_of_every_damaged_log_is_named() -> None:
    chains = written()
    chains.rows[3][2] = edited(chains.rows[3][2])
    del chains.rows[3][5]
    del chains.rows[5][1]
    problems = chains.report().problems
    assert [(one.what.value, one.log, one.seq) for one in problems] == [("changed", 3, 3), ("removed", 5, 2)]


def test_a_checkpoint_of_another_key_is_forged() -> None:
    chains = Chains().write(4).checkpoint(OTHER_KEY)
    assert told(chains)[0] == "checkpoint"
    assert "forged" in found(chains).text


def test_a_checkpoint_whose_statement_was_changed_is_forged() -> None:
    chains = written()
    statement = json.loads(chains.checkpoints[1].statement)
    statement["rows"] = 4
    chains.checkpoints[1] = dataclasses.replace(chains.checkpoints[1], statement=canonical(statement))
    assert "checkpoint 2 is forged" in found(chains).text


def test_a_rewritten_log_with_its_own_checkpoints_is_found_by_their_signature() -> None:
    chains = written()
    chains.rows[3][1] = edited(chains.rows[3][1])
    chains.recompute(3, 1)
    chains.checkpoints.clear()
    chains.checkpoint(OTHER_KEY)
    assert "forged" in found(chains).text


def test_checkpoints_that_were_taken_out_or_exchanged_are_told() -> None:
    chains = written()
    del chains.checkpoints[0]
    assert "checkpoint 2 follows checkpoint 0" in found(chains).text
    chains = written()
    other = Chains().write(5).checkpoint()
    chains.checkpoints[0] = other.checkpoints[0]
    assert any("names another checkpoint 1" in problem.text for problem in chains.report().problems)


def test_leaves_that_were_not_signed_are_told() -> None:
    chains = written()
    signed = chains.checkpoints[0]
    chains.checkpoints[0] = SignedCheckpoint(signed.statement, signed.signature, bytes(len(signed.leaves)))
    assert "not those that it signed" in found(chains).text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "{}",
        '{"v":1}',
        '{ "v":1}',
        '{"act":{},"log":77,"prev":"0","seq":1,"time":"2026-01-02T03:04:05.000006Z","v":1}',
    ],
)
def test_a_row_that_is_none_is_told(content: str) -> None:
    report = verify([], [Row(content, Row(content, "").computed_hash)], KEY.public.is_signed)
    assert report.first is not None
    assert report.first.what in (Tampering.UNREADABLE, Tampering.INSERTED)


def test_a_file_says_the_same_as_the_log_that_it_was_made_of() -> None:
    chains = written()
    assert verify_lines(lines_of(chains), KEY.public.is_signed, is_unsigned_fine=True) == chains.report()
    chains.rows[3][3] = edited(chains.rows[3][3])
    first = verify_lines(lines_of(chains), KEY.public.is_signed).first
    assert first is not None
    assert (first.what, first.log, first.seq) == (Tampering.CHANGED, 3, 4)


def test_rows_that_nobody_signed_prove_nothing() -> None:
    lines = lines_of(written())
    first = verify_lines(lines, KEY.public.is_signed).first
    assert first is not None
    assert (first.what, first.text[:2]) == (Tampering.UNSIGNED, "4 ")
    no_checkpoints = [line for line in lines[:-1] if '"checkpoint"' not in line]
    report = verify_lines([*no_checkpoints, end_line(15, 0)], KEY.public.is_signed)
    assert [problem.what for problem in report.problems] == [Tampering.UNSIGNED]


def test_checkpoints_after_the_rows_vouch_for_nothing() -> None:
    """Rows are compared as they come in: a checkpoint that comes later has not seen them."""
    chains = written()
    chains.rows[3][1] = edited(chains.rows[3][1])
    chains.recompute(3, 1)
    header, *lines, end = lines_of(chains)
    signed = [line for line in lines if '"type":"checkpoint"' in line]
    rows = [line for line in lines if line not in signed]
    for order in ([*rows, *signed], [*rows[:1], *signed, *rows[1:]], [signed[0], *rows, signed[1]]):
        report = verify_lines([header, *order, end], KEY.public.is_signed, is_unsigned_fine=True)
        assert any("stands after rows" in problem.text for problem in report.problems)


def test_a_part_that_says_it_is_whole_and_a_whole_that_says_it_is_a_part() -> None:
    chains = Chains().write(4).checkpoint().write(4).checkpoint()
    whole = lines_of(chains)
    base = dataclasses.replace(chains.checkpoints[0], leaves=b"").to_json()
    part = [Header(is_whole=False, made_at=BEGAN).line(), base, chains.checkpoints[1].to_json(), *whole[7:11]]
    assert verify_lines([*part, end_line(4, 2)], KEY.public.is_signed).problems == ()
    lying = verify_lines([whole[0], *part[1:], end_line(4, 2)], KEY.public.is_signed)
    assert lying.first is not None
    lying = verify_lines([part[0], *whole[1:]], KEY.public.is_signed)
    assert lying.first is not None


class TestNoted:
    def noted(self, chains: Chains, number: int) -> Noted:
        return Noted(number, chains.checkpoints[number - 1].hash)

    def test_a_log_that_holds_it_is_fine(self) -> None:
        chains = Chains().write(4).checkpoint().write(4).checkpoint()
        for number in (1, 2):
            noted = self.noted(chains, number)
            assert verify_lines(lines_of(chains), KEY.public.is_signed, noted=[noted]).problems == ()
        assert chains.report().last == self.noted(chains, 2)
        assert str(self.noted(chains, 2)) == f"2:{chains.checkpoints[1].hash}"

    def test_an_end_that_was_cut_off_with_its_checkpoints_is_told(self) -> None:
        chains = Chains().write(4).checkpoint().write(4).checkpoint()
        noted = self.noted(chains, 2)
        chains.checkpoints.pop()
        del chains.rows[3][4:]
        assert verify_lines(lines_of(chains), KEY.public.is_signed).problems == ()
        [problem] = verify_lines(lines_of(chains), KEY.public.is_signed, noted=[noted]).problems
        assert "ends at checkpoint 1, and checkpoint 2 was noted" in problem.text

    def test_another_log_of_the_same_key_is_told(self) -> None:
        chains, other = Chains().write(4).checkpoint(), Chains().write(5).checkpoint()
        [problem] = verify_lines(lines_of(chains), KEY.public.is_signed, noted=[self.noted(other, 1)]).problems
        assert "signed another log" in problem.text

    def test_a_part_that_begins_later_cannot_be_compared(self) -> None:
        chains = Chains().write(4).checkpoint().write(4).checkpoint()
        part = [Header(is_whole=False, made_at=BEGAN).line(), chains.checkpoints[1].to_json(), end_line(0, 1)]
        with pytest.raises(ValueError, match="begins after checkpoint 2"):
            verify_lines(part, KEY.public.is_signed, noted=[self.noted(chains, 1)])


def test_a_file_that_was_cut_off_is_told() -> None:
    lines = lines_of(written())
    for cut in (lines[:-1], lines[:-4]):
        first = verify_lines(cut, KEY.public.is_signed).problems[-1]
        assert "cut off" in first.text
    fewer = verify_lines([*lines[:-3], lines[-1]], KEY.public.is_signed)
    assert "more or less" in fewer.problems[-1].text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1 is not canonical"),
        (["{}"], "no file of"),
        (["not json"], "line 1"),
        ([*lines_of(Chains()), "{}"], "after the last line"),
        ([lines_of(Chains())[0], '{"type":"other"}'], "line 2 is neither"),
        ([lines_of(Chains())[0], '{"type":"checkpoint"}'], "no checkpoint"),
        ([lines_of(Chains())[0], '{"a": 1}'], "line 2 is not canonical"),
        ([lines_of(Chains())[0], "[]"], "line 2 is not an object"),
    ],
)
def test_what_is_no_export_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        verify_lines(lines, KEY.public.is_signed)


def test_a_part_begins_after_its_first_checkpoint() -> None:
    chains = written()
    rows = [*chains.rows[3][4:], *chains.rows[5][2:]]
    report = verify(chains.checkpoints, rows, KEY.public.is_signed, is_whole=False)
    assert report.problems == ()
    assert (report.rows, report.signed_rows) == (9, 5)
    assert report.since is not None
    missing = verify(chains.checkpoints, rows[1:], KEY.public.is_signed, is_whole=False).first
    assert missing is not None
    assert (missing.what, missing.seq) == (Tampering.REMOVED, 5)
