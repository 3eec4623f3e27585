"""Writes a TUF repository with python-tuf: 2-of-3 root, one rotation, one delegation.

usage: author.py DIR   (DIR/metadata gets the files; a JSON summary goes to stdout)
"""

import json
import os
import sys
from datetime import datetime, timezone

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

EXPIRES = datetime(2999, 1, 1, tzinfo=timezone.utc)


def signer(seed):
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32)))


out = os.path.join(sys.argv[1], "metadata")
os.makedirs(out)
roots = [signer(seed) for seed in (1, 2, 3, 4)]
targets_key, snapshot_key, timestamp_key, team_key = (signer(seed) for seed in (5, 6, 7, 8))


def write(name, metadata, signers):
    for at, one in enumerate(signers):
        metadata.sign(one, append=at > 0)
    # Indented on purpose: signatures are over the canonical form, not over these bytes.
    data = metadata.to_bytes(JSONSerializer(compact=False))
    with open(os.path.join(out, name), "wb") as file:
        file.write(data)
    return data


def pin(version, data):
    return MetaFile.from_data(version, data, ["sha256"])


root = Root(expires=EXPIRES, consistent_snapshot=True)
for one in roots[:3]:
    root.add_key(one.public_key, "root")
root.roles["root"].threshold = 2
for role, one in (
    ("targets", targets_key),
    ("snapshot", snapshot_key),
    ("timestamp", timestamp_key),
):
    root.add_key(one.public_key, role)
write("1.root.json", Metadata(root), roots[:2])

root.revoke_key(roots[0].public_key.keyid, "root")
root.add_key(roots[3].public_key, "root")
root.version = 2
write("2.root.json", Metadata(root), [roots[1], roots[2], roots[0]])

manifest, team_manifest = b"the manifest", b"a team's manifest"
team = Targets(expires=EXPIRES)
listed = TargetFile.from_data("vision-a/v1", team_manifest, ["sha256"])
listed.unrecognized_fields["custom"] = {"counter": 3}
team.targets["vision-a/v1"] = listed
team_data = write("1.vision.json", Metadata(team), [team_key])

targets = Targets(expires=EXPIRES)
listed = TargetFile.from_data("digits/v1", manifest, ["sha256"])
listed.unrecognized_fields["custom"] = {"counter": 1}
targets.targets["digits/v1"] = listed
role = DelegatedRole("vision", [team_key.public_key.keyid], 1, True, paths=["vision-*/*"])
targets.delegations = Delegations({team_key.public_key.keyid: team_key.public_key}, {"vision": role})
targets_data = write("1.targets.json", Metadata(targets), [targets_key])

snapshot = Snapshot(
    expires=EXPIRES,
    meta={"targets.json": pin(1, targets_data), "vision.json": pin(1, team_data)},
)
snapshot_data = write("1.snapshot.json", Metadata(snapshot), [snapshot_key])
timestamp = Timestamp(expires=EXPIRES, snapshot_meta=pin(1, snapshot_data))
write("timestamp.json", Metadata(timestamp), [timestamp_key])

json.dump({"keyid": team_key.public_key.keyid}, sys.stdout)
