#!/usr/bin/env python3
"""Makes signed.bin, a ledger of format 2 with signatures, and ed25519.json, by PyPI's `cryptography`: another implementation of Ed25519
than the program's; and commitments.json, roots of commitments to data, from docs/reference/ledger.md alone.

    pip install cryptography
    Tests/CoreTests/Fixtures/make_signed.py Tests/CoreTests/Fixtures
"""
import hashlib
import json
import os
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import ledger_reader

# RFC 8032, section 7.1: secret, public key, message, signature of TEST 1, 2, 3 and SHA(abc).
RFC = [
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
    ("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
     "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"),
]


def signed():
    """The fixture of format 1, in format 2, with a key in its admissions and signatures behind its digest and its end."""
    keys = {1: Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32), 300: Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)}
    keeper = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32)
    old = [(item[1], item[2]) for item in ledger_reader.records(ledger_reader.make())]
    spec = old[0][1]
    data = ledger_reader.MAGIC + struct.pack("<I", 2) + hashlib.sha256(spec).digest()
    data += struct.pack("<I", ledger_reader.crc32c(data))
    chain, chains = hashlib.sha256(data).digest(), []

    def add(kind, payload):
        nonlocal data, chain
        chain = hashlib.sha256(chain + bytes([kind]) + payload).digest()
        chains.append(chain)
        frame = struct.pack("<IB", len(payload), kind) + payload + chain[:8]
        data += frame + struct.pack("<I", ledger_reader.crc32c(frame))

    def sign():
        statement = b"onebyte ledger 1\n" + struct.pack("<Q", len(chains)) + chain
        add(12, keeper.public_key().public_bytes_raw() + keeper.sign(statement))

    for kind, payload in old:
        record = ledger_reader.parse(kind, payload)
        if record["kind"] == "admission":
            payload += keys[record["machine"]].public_key().public_bytes_raw()
        add(kind, payload)
        if record["kind"] == "digest":
            position = record["position"]
            statement = b"onebyte witness 1\n" + struct.pack("<Q", position) + chains[position - 1] + bytes.fromhex(record["sha256"])
            add(13, bytes([2]) + b"".join(machine + keys[number].sign(statement) for machine, number in [(b"\x01", 1), (b"\xac\x02", 300)]))
            sign()
        if record["kind"] == "end":
            sign()
    return data


def root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    left = 1
    while 2 * left < len(leaves):
        left *= 2
    return hashlib.sha256(b"\1" + root(leaves[:left]) + root(leaves[left:])).digest()


def commitments():
    found = []
    for count in [0, 1, 2, 3, 4, 5, 7, 8, 9, 33]:
        secret = hashlib.sha256(f"secret {count}".encode()).digest()
        examples = [hashlib.shake_128(f"example {i}".encode()).digest(i * 7) for i in range(count)]
        leaves = [hashlib.sha256(b"\0" + hashlib.sha256(secret + struct.pack("<I", i)).digest()[:16] + example).digest()
                  for i, example in enumerate(examples)]
        found.append({"secret": secret.hex(), "examples": [e.hex() for e in examples], "root": root(leaves).hex()})
    return found


def cases():
    found = [dict(zip(("seed", "key", "message", "signature"), case)) for case in RFC]
    for number in range(12):
        seed = hashlib.sha256(f"seed {number}".encode()).digest()
        message = hashlib.shake_128(f"message {number}".encode()).digest(number * 29)
        key = Ed25519PrivateKey.from_private_bytes(seed)
        found.append({"seed": seed.hex(), "key": key.public_key().public_bytes_raw().hex(), "message": message.hex(),
                      "signature": key.sign(message).hex()})
    for case in found:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["seed"]))
        assert key.sign(bytes.fromhex(case["message"])).hex() == case["signature"]
        assert ledger_reader.signature_is_right(
            bytes.fromhex(case["key"]), bytes.fromhex(case["message"]), bytes.fromhex(case["signature"]))
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(os.path.join(sys.argv[1], "signed.bin"), "wb") as file:
        file.write(signed())
    with open(os.path.join(sys.argv[1], "ed25519.json"), "w") as file:
        json.dump(cases(), file, indent=1)
        file.write("\n")
    with open(os.path.join(sys.argv[1], "commitments.json"), "w") as file:
        json.dump(commitments(), file)
        file.write("\n")
