import base64
import os

import pytest
from temporalio.api.common.v1 import Payload

from adapters.objects.memory import MemoryObjects
from domain.errors import InvalidInput, NotFound
from temporal.codec import (
    ENCRYPTED,
    KEY_ID,
    REFERENCE,
    REFERENCE_ABOVE_BYTES,
    EncryptedPayloads,
    PayloadKeys,
    PayloadUnreadable,
)


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def payload(data: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain", "messageType": b"x"}, data=data)


def codec(keys: dict[str, str], writing: str, store: MemoryObjects | None = None) -> EncryptedPayloads:
    return EncryptedPayloads(PayloadKeys(keys, writing), store or MemoryObjects())


async def test_a_malformed_key_is_refused_by_its_id_and_never_quoted() -> None:
    for bad in ("not base64 at all!", base64.b64encode(b"short").decode(), ""):
        with pytest.raises(InvalidInput, match="'k1'") as refused:
            PayloadKeys({"k1": bad}, "k1")
        assert not bad or bad not in str(refused.value)


async def test_the_writing_key_must_be_among_the_keys() -> None:
    with pytest.raises(InvalidInput, match="'k2' shall write"):
        PayloadKeys({"k1": key()}, "k2")


async def test_an_unknown_key_id_is_named_with_those_that_are_here() -> None:
    written = await codec({"old": key()}, "old").encode([payload(b"x")])
    with pytest.raises(PayloadUnreadable, match=r"'old'.*has new.*temporal\.payload_keys"):
        await codec({"new": key()}, "new").decode(written)


@pytest.mark.parametrize("place", [0, 5, 13, -1])
async def test_a_changed_byte_anywhere_is_noticed(place: int) -> None:
    both = codec({"k": key()}, "k")
    [written] = await both.encode([payload(b"hello")])
    changed = bytearray(written.data)
    changed[place] ^= 1
    with pytest.raises(PayloadUnreadable, match="was changed"):
        await both.decode([Payload(metadata=written.metadata, data=bytes(changed))])


async def test_another_key_of_the_same_name_is_noticed() -> None:
    written = await codec({"k": key()}, "k").encode([payload(b"hello")])
    with pytest.raises(PayloadUnreadable, match="'k'"):
        await codec({"k": key()}, "k").decode(written)


async def test_the_key_id_is_authenticated() -> None:
    same = key()
    both = codec({"a": same, "b": same}, "a")
    [written] = await both.encode([payload(b"hello")])
    written.metadata[KEY_ID] = b"b"
    with pytest.raises(PayloadUnreadable):
        await both.decode([written])


@pytest.mark.parametrize("text", [b"", b"{", b'{"key": 1}', b"\xff"])
async def test_a_reference_that_is_not_ours_is_refused(text: bytes) -> None:
    with pytest.raises(PayloadUnreadable, match="not ours"):
        await codec({"k": key()}, "k").decode([Payload(metadata={"encoding": REFERENCE}, data=text)])


async def test_a_reference_cannot_read_other_objects() -> None:
    store = MemoryObjects()
    await store.put("logs/secret.log", b"secret")
    forged = b'{"key": "logs/secret.log", "sha256": "", "size_bytes": 6, "key_id": "k"}'
    with pytest.raises(PayloadUnreadable, match="is not a payload"):
        await codec({"k": key()}, "k", store).decode([Payload(metadata={"encoding": REFERENCE}, data=forged)])


async def test_a_lost_or_exchanged_object_is_noticed() -> None:
    store = MemoryObjects()
    both = codec({"k": key()}, "k", store)
    written = await both.encode([payload(os.urandom(REFERENCE_ABOVE_BYTES * 2))])
    [name] = await store.list_keys("payloads/")
    await store.put(name, b"something else")
    with pytest.raises(PayloadUnreadable, match="not the payload that was stored"):
        await both.decode(written)
    await store.delete([name])
    with pytest.raises(NotFound):
        await both.decode(written)


@pytest.mark.parametrize("size_bytes", [0, 1, 511, 512, 513, 60_000])
async def test_what_is_written_is_read_again_and_not_seen_meanwhile(size_bytes: int) -> None:
    both = codec({"k": key()}, "k")
    for data in (os.urandom(size_bytes), b"readable" * (size_bytes // 8)):
        [written] = await both.encode([payload(data)])
        assert written.metadata["encoding"] == ENCRYPTED
        assert b"readable" not in written.data
        assert b"json/plain" not in written.SerializeToString()
        assert await both.decode([written]) == [payload(data)]


async def test_repetitive_payloads_are_compressed() -> None:
    [written] = await codec({"k": key()}, "k").encode([payload(b"again and " * 5000)])
    assert len(written.data) < 1000


async def test_equal_payloads_look_different() -> None:
    both = codec({"k": key()}, "k")
    first, second = await both.encode([payload(b"same"), payload(b"same")])
    assert first.data != second.data


async def test_large_payloads_travel_by_reference() -> None:
    store = MemoryObjects()
    both = codec({"k": key()}, "k", store)
    data = os.urandom(REFERENCE_ABOVE_BYTES * 3)
    [written] = await both.encode([payload(data)])
    assert written.metadata["encoding"] == REFERENCE
    assert len(written.data) < 500
    [name] = await store.list_keys("payloads/")
    assert data[:64] not in await store.get(name)
    assert await both.decode([written]) == [payload(data)]


async def test_keys_rotate_while_old_payloads_stay_readable() -> None:
    old, new = key(), key()
    written = await codec({"2025": old}, "2025").encode([payload(b"old")])
    rotated = codec({"2025": old, "2026": new}, "2026")
    assert await rotated.decode(written) == [payload(b"old")]
    [fresh] = await rotated.encode([payload(b"new")])
    assert fresh.metadata[KEY_ID] == b"2026"


async def test_payloads_that_are_not_ours_pass() -> None:
    plain = payload(b'{"from": "the temporal command"}')
    assert await codec({"k": key()}, "k").decode([plain]) == [plain]
