"""What OpenTelemetry's own package reads in an export request; as JSON.

    otlp.py BODY [gzip]
"""

import gzip
import json
import pathlib
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


def unknown(message: object) -> bool:
    """Whether bytes were left over anywhere: a number or a type that the package does not know."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.SerializeToString(deterministic=True) != message.SerializeToString(
        deterministic=True
    )


def main(path: str, coding: str = "") -> None:
    body = pathlib.Path(path).read_bytes()
    if coding == "gzip":
        body = gzip.decompress(body)
    request = ExportMetricsServiceRequest.FromString(body)
    if unknown(request):
        sys.exit("fields that opentelemetry-proto does not know")
    print(json.dumps(MessageToDict(request, preserving_proto_field_name=True)))


main(*sys.argv[1:])
