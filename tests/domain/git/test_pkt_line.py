import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.git.pkt_line import (
    FLUSH,
    PAYLOAD_SIZE_BYTES_MAX,
    PktLineReader,
    Special,
    encode,
    on_band,
    packet_length,
)


@pytest.mark.parametrize("digits", [b"", b"000", b"zzzz", b"+123", b" 12a", b"0x1f", b"0003", b"fff1", b"ffff"])
def test_a_length_that_no_packet_has_is_refused(digits: bytes) -> None:
    with pytest.raises(InvalidInput):
        packet_length(digits)


@pytest.mark.parametrize("payload", [b"", b"x" * (PAYLOAD_SIZE_BYTES_MAX + 1)])
def test_an_empty_or_too_long_payload_is_no_packet(payload: bytes) -> None:
    with pytest.raises(InvalidInput):
        encode(payload)


def test_a_packet_that_has_not_come_in_full_is_waited_for() -> None:
    reader = PktLineReader()
    reader.feed(b"00")
    assert reader.next() is None
    reader.feed(b"06a")
    assert reader.next() is None
    reader.feed(b"b0000PACK")
    assert reader.next() == b"ab"
    assert reader.next() is Special.FLUSH
    assert reader.rest() == b"PACK"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.integers(1, 50))
def test_packets_survive_being_cut_anywhere(payloads: list[bytes], step: int) -> None:
    stream = b"".join(map(encode, payloads)) + FLUSH
    reader, seen = PktLineReader(), []
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        while (packet := reader.next()) is not None:
            seen.append(packet)
    assert seen == [*payloads, Special.FLUSH]


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_packets_or_refused(data: bytes) -> None:
    reader = PktLineReader()
    reader.feed(data)
    try:
        while reader.next() is not None:
            pass
    except InvalidInput:
        return


def test_long_text_takes_several_packets_of_a_band() -> None:
    framed = on_band(2, b"x" * 2500, packet_size_bytes_max=1000)
    reader, seen = PktLineReader(), []
    reader.feed(framed)
    while isinstance(packet := reader.next(), bytes):
        assert len(packet) + 4 <= 1000
        assert packet[0] == 2
        seen.append(packet[1:])
    assert b"".join(seen) == b"x" * 2500
    assert on_band(2, b"") == b""
