import base64
import os

from temporalio.converter import CompositePayloadConverter, WithSerializationContext

from adapters.objects.memory import MemoryObjects
from temporal.codec import PayloadKeys
from temporal.converter import data_converter


def test_no_part_of_the_converter_asks_for_the_context_that_our_runner_does_not_give() -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    converter = data_converter(PayloadKeys({"k1": key}, "k1"), MemoryObjects())
    payloads = converter.payload_converter_class()
    assert isinstance(payloads, CompositePayloadConverter)
    parts = [*payloads.converters.values(), converter.payload_codec, converter.failure_converter]
    assert not [part for part in parts if isinstance(part, WithSerializationContext)]
    assert converter.external_storage is None
