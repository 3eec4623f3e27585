"""Validates messages of the JSON mirror, one a line, against the shipped schemas.

    telemetry.py SCHEMAS MESSAGES
"""

import json
import pathlib
import sys

import jsonschema

KINDS = {"on": "online", "st": "state", "tm": "telemetry", "hw": "host", "ev": "event"}
# Longest message, bytes.
BYTES_MAX = 512


def main(schemas: str, messages: str) -> None:
    validators = {}
    for level, name in KINDS.items():
        schema = json.loads(pathlib.Path(schemas, f"{name}.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        validators[level] = jsonschema.Draft202012Validator(schema)
    counts = dict.fromkeys(KINDS, 0)
    for line in pathlib.Path(messages).read_text().splitlines():
        message = json.loads(line)
        level = message["topic"].split("/j/", 1)[1].split("/")[1]
        payload = message["payload"]
        if len(payload.encode()) > BYTES_MAX:
            sys.exit(f"{len(payload)} bytes: {line}")
        error = jsonschema.exceptions.best_match(validators[level].iter_errors(json.loads(payload)))
        if error is not None:
            sys.exit(f"{level}: {error.message}\n{line}")
        counts[level] += 1
    print(json.dumps(counts))


main(*sys.argv[1:])
