"""The data converter of every client, worker and replayer: pydantic messages, encrypted payloads, encrypted failures.

Failure messages and stack traces are encoded too (they may quote what a payload held); the Temporal UI shows them
through the codec endpoint, ``api/routes/codec.py``.
"""

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes

from temporal.codec import EncryptedPayloads, PayloadKeys, PayloadStore


def data_converter(keys: PayloadKeys, store: PayloadStore) -> DataConverter:
    """Builds the converter.

    Args:
        keys: What payloads are encrypted with.
        store: Where large payloads go; ``adapters.objects.base.Objects`` fits.
    """
    return DataConverter(
        payload_converter_class=PydanticPayloadConverter,
        payload_codec=EncryptedPayloads(keys, store),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
