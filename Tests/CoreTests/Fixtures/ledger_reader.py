#!/usr/bin/env python3
"""A second reader of OneByte ledgers, written from docs/reference/ledger.md alone. Standard library only.

    ledger_reader.py show LEDGER          one JSON line for each record
    ledger_reader.py verify LEDGER        checks all of it, signatures too; prints the chain's last value
    ledger_reader.py effective LEDGER     the rounds that decide the parameters, one JSON line each
    ledger_reader.py make LEDGER          writes the fixture ledger that the tests compare bit for bit
"""
import hashlib
import json
import struct
import sys

MAGIC = bytes.fromhex("4F4E45425954450A")
LIMIT = 24 << 20
KINDS = ["", "spec", "baseManifest", "basis", "admission", "departure", "round", "digest", "retraction", "rewind", "end",
         "validation", "signature", "witnesses", "restoration"]

CRC_TABLE = []
for i in range(256):
    value = i
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    CRC_TABLE.append(value)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


class Damage(Exception):
    pass


# Ed25519 (RFC 8032, section 5.1), to check signatures only: slow and plain.
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point_add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P)


def point_multiply(n, a):
    total = (0, 1)
    while n:
        if n & 1:
            total = point_add(total, a)
        a, n = point_add(a, a), n >> 1
    return total


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise Damage("a key or a signature is no point of the curve")
    return (P - x if x & 1 != sign else x, y)


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def signature_is_right(key, message, signature):
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    return s < ORDER and point_multiply(s, BASE) == point_add(point(signature[:32]), point_multiply(k, point(key)))


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Damage("payload ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if (byte == 0 and shift) or value >= 1 << 64:
                    raise Damage("bad varint")
                return value
            shift += 7
            if shift > 63:
                raise Damage("bad varint")

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def flag(self):
        byte = self.take(1)[0]
        if byte > 1:
            raise Damage("a flag is 0 or 1")
        return bool(byte)

    def text(self):
        return self.take(self.varint()).decode("utf-8")


def parse(kind, payload):
    """The payload as plain values."""
    c = Cursor(payload)
    name = KINDS[kind]
    if name == "spec":
        out = {"spec": json.loads(c.take(len(payload)))}
    elif name == "baseManifest":
        out = {"tensors": []}
        for _ in range(c.varint()):
            tensor = {"name": c.text()}
            tensor["shape"] = [c.varint() for _ in range(c.take(1)[0])]
            tensor["sha256"] = c.take(32).hex()
            out["tensors"].append(tensor)
    elif name == "basis":
        out = {"sha256": hashlib.sha256(c.take(len(payload))).hexdigest()}
    elif name == "admission":
        out = {"machine": c.varint(), "time": c.number("Q")}
        flags = c.take(1)[0]
        if flags > 31 or (flags & 24 and not flags & 4):
            raise Damage("an admission with flags that are not known")
        out |= {"trains": bool(flags & 1), "evaluates": bool(flags & 2), "session": c.take(16).hex(), "name": c.text()}
        if flags & 4:
            out["precision"] = {"samples": "int8" if flags & 8 else "float", "hiddenStates": "int8" if flags & 16 else "float"}
        out["publicKey"] = c.take(c.varint()).hex()
        if c.at < len(payload):
            out["signingKey"] = c.take(32).hex()
        if c.at < len(payload):
            out["data"] = {"root": c.take(32).hex(), "examples": c.varint()}
    elif name == "departure":
        out = {"machine": c.varint(), "time": c.number("Q"), "reason": c.take(1)[0]}
    elif name == "round":
        out = {"round": c.varint(), "S": c.number("b"), "M": c.number("H"), "E": c.number("b"), "contributions": []}
        for _ in range(c.varint()):
            machine, first, count = c.varint(), c.varint(), c.varint()
            q = list(struct.unpack(f"{count}b", c.take(count)))
            out["contributions"].append({"machine": machine, "first": first, "q": q})
        order = [(e["machine"], e["first"]) for e in out["contributions"]]
        if order != sorted(order):
            raise Damage("contributions out of order")
    elif name == "digest":
        out = {"round": c.varint(), "position": c.varint(), "sha256": c.take(32).hex()}
        out["machines"] = [c.varint() for _ in range(c.varint())]
    elif name in ("retraction", "restoration"):
        out = {"machine": c.varint(), "rounds": [c.varint(), c.varint()]}
    elif name == "rewind":
        out = {"round": c.varint(), "rateShift": c.number("b"), "final": c.flag()}
    elif name == "validation":
        out = {"round": c.varint(), "position": c.varint(), "examples": c.varint(), "loss": c.number("d"), "accuracy": c.number("d"),
               "trial": c.flag()}
        if c.at < len(payload):
            out |= {"noise": c.number("d"), "moved": c.number("d")}
            if out["noise"] != out["noise"] and out["moved"] != out["moved"]:
                raise Damage("a validation with room for what it does not say")
            if any(x == x and not 0 <= x <= 1e12 for x in (out["noise"], out["moved"])):
                raise Damage("a validation with a noise or a movement that is out of range")
    elif name == "signature":
        out = {"signer": c.take(32).hex(), "signature": c.take(64).hex()}
    elif name == "witnesses":
        out = {"signatures": [[c.varint(), c.take(64).hex()] for _ in range(c.varint())]}
    else:
        out = {"time": c.number("Q")}
    if c.at != len(payload):
        raise Damage("payload has bytes left over")
    return {"kind": name, **out}


def whole_record(data, at):
    """Length of the record at `at`, if it is whole and its CRC is right; else None."""
    if len(data) - at < 17:
        return None
    length, kind = struct.unpack_from("<IB", data, at)
    if length > LIMIT or not 1 <= kind <= 14 or at + length + 17 > len(data):
        return None
    (crc,) = struct.unpack_from("<I", data, at + length + 13)
    return length + 17 if crc32c(data[at : at + length + 13]) == crc else None


def records(data):
    """Yields (offset, kind, payload, chain); the last item is ('torn', offset, bytes) where the tail is torn."""
    if data[:8] != MAGIC:
        raise Damage("not a ledger")
    version, digest, crc = struct.unpack("<I32sI", data[8:48])
    if version not in (1, 2, 3, 4) or crc != crc32c(data[:44]):
        raise Damage("bad header")
    chain, at = hashlib.sha256(data[:48]).digest(), 48
    while at < len(data):
        size = whole_record(data, at)
        if size is not None:
            kind, payload = data[at + 4], data[at + 5 : at + size - 12]
            if kind > {1: 11, 2: 13, 3: 14, 4: 14}[version]:
                raise Damage(f"format {version} has no records of kind {kind}")
            chain = hashlib.sha256(chain + bytes([kind]) + payload).digest()
            if data[at + size - 12 : at + size - 4] != chain[:8]:
                size = None
        if size is None:
            if any(whole_record(data, p) for p in range(at + 1, len(data))):
                raise Damage(f"damaged record at byte {at}")
            yield ("torn", at, len(data) - at)
            return
        if at == 48 and (kind != 1 or hashlib.sha256(payload).digest() != digest):
            raise Damage("the first record is not the header's spec")
        yield (at, kind, payload, chain)
        at += size


def check_signatures(data):
    """How many signatures the ledger holds, all of which are right."""
    chains, keys, digest, count = [], {}, None, 0
    for index, item in enumerate(i for i in records(data) if i[0] != "torn"):
        record = parse(item[1], item[2])
        if record["kind"] == "admission":
            keys[record["machine"]] = record.get("signingKey")
        elif record["kind"] == "digest":
            digest = record
        elif record["kind"] == "signature":
            statement = b"onebyte ledger 1\n" + struct.pack("<Q", index) + chains[-1]
            if not signature_is_right(bytes.fromhex(record["signer"]), statement, bytes.fromhex(record["signature"])):
                raise Damage(f"the signature of record {index} is wrong")
            count += 1
        elif record["kind"] == "witnesses":
            position = digest["position"]
            statement = b"onebyte witness 1\n" + struct.pack("<Q", position) + chains[position - 1] + bytes.fromhex(digest["sha256"])
            for machine, signature in record["signatures"]:
                if not signature_is_right(bytes.fromhex(keys[machine]), statement, bytes.fromhex(signature)):
                    raise Damage(f"the countersignature of machine {machine} in record {index} is wrong")
                count += 1
        chains.append(item[3])
    return count


def effective(data):
    rounds = []
    for item in records(data):
        if item[0] == "torn":
            break
        record = parse(item[1], item[2])
        if record["kind"] == "round":
            if record["round"] != len(rounds):
                raise Damage("round numbers have a gap")
            rounds.append(record)
        elif record["kind"] == "retraction":
            for r in rounds[record["rounds"][0] : record["rounds"][1]]:
                for e in r["contributions"]:
                    if e["machine"] == record["machine"]:
                        e["gone"] = True
        elif record["kind"] == "restoration":
            for r in rounds[record["rounds"][0] : record["rounds"][1]]:
                for e in r["contributions"]:
                    if e["machine"] == record["machine"]:
                        e.pop("gone", None)
        elif record["kind"] == "rewind":
            for r in rounds[record["round"] :]:
                r["void"] = True
    for r in rounds:
        r["contributions"] = [e for e in r["contributions"] if "gone" not in e]
    return [r for r in rounds if "void" not in r]


def make():
    """A ledger with every kind of record, every field at a value that shows its width and its byte order."""

    def varint(value):
        out = b""
        while value >= 128:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    def text(value):
        return varint(len(value.encode())) + value.encode()

    basis = bytes(range(7))
    spec = {
        "basisDigest": hashlib.sha256(basis).hexdigest(), "digestEvery": 2, "epsilon": 0.001, "evaluateEvery": 0,
        "examplesPerSample": 1, "heartbeatSeconds": 1, "heartbeatTimeoutSeconds": 10, "learningRate": 0.04, "minimumWorkers": 2,
        "perturbation": "rank1", "quorum": 0.5, "roundDeadlineFactor": 0, "rounds": 3, "samplesPerRound": 6,
        "schedule": "linear", "seed": 81985529216486895, "shapeComponents": 4, "staleness": 1, "targetMagnitude": 32,
        "task": {"kind": "classification", "labels": [{"label": "0", "word": " terrible"}, {"label": "1", "word": " great"}],
                 "maxLength": 64, "template": "{text} It was"},
        "train": ["layers.29"], "version": 1, "warmupRounds": 0,
    }
    spec = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def tensor(name, shape, fill):
        return text(name) + bytes([len(shape)]) + b"".join(map(varint, shape)) + bytes([fill]) * 32

    def admission(machine, when, flags, fill, name, key):
        return varint(machine) + struct.pack("<QB", when, flags) + bytes([fill]) * 16 + text(name) + varint(len(key)) + key

    def round_(number, s, m, e, contributions):
        out = varint(number) + struct.pack("<bHb", s, m, e) + varint(len(contributions))
        for machine, first, q in contributions:
            out += varint(machine) + varint(first) + varint(len(q)) + struct.pack(f"{len(q)}b", *q)
        return out

    def digest(number, position, fill, machines):
        return varint(number) + varint(position) + bytes([fill]) * 32 + varint(len(machines)) + b"".join(map(varint, machines))

    content = [
        (1, spec),
        (2, varint(2) + tensor("model.layers.29.mlp.down_proj.weight", [576, 1536], 0xAB) + tensor("model.norm.weight", [576], 0xCD)),
        (3, basis),
        (4, admission(1, 1700000000, 1, 0x11, "größe", b"")),
        (4, admission(300, 1700000001, 3, 0x22, "b", b"key")),
        (6, round_(0, -3, 40000, -20, [(1, 0, [1, -2, 127]), (300, 0, [-128, -127, 0])])),
        (6, round_(1, 2, 65535, 127, [(1, 3, [5, 6, 7]), (300, 3, [8, 9]), (300, 200, [10])])),
        (7, digest(2, 7, 0xEE, [1, 300])),
        (8, varint(300) + varint(0) + varint(2)),
        (9, varint(1) + struct.pack("<bB", -1, 0)),
        (11, varint(2) + varint(9) + varint(500) + struct.pack("<ddB", 0.75, 0.5, 1)),
        (9, varint(1) + struct.pack("<bB", 0, 1)),
        (5, varint(300) + struct.pack("<QB", 1700000002, 2)),
        (6, round_(2, 0, 0, 0, [(1, 100000, [-128])])),
        (10, struct.pack("<Q", 1700000003)),
    ]
    data = MAGIC + struct.pack("<I", 1) + hashlib.sha256(spec).digest()
    data += struct.pack("<I", crc32c(data))
    chain = hashlib.sha256(data).digest()
    for kind, payload in content:
        chain = hashlib.sha256(chain + bytes([kind]) + payload).digest()
        frame = struct.pack("<IB", len(payload), kind) + payload + chain[:8]
        data += frame + struct.pack("<I", crc32c(frame))
    return data


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("show", "verify", "effective", "make"):
        sys.exit(__doc__)
    command, path = sys.argv[1:]
    if command == "make":
        with open(path, "wb") as file:
            file.write(make())
        return
    with open(path, "rb") as file:
        data = file.read()
    try:
        if command == "effective":
            for r in effective(data):
                print(json.dumps(r, sort_keys=True))
            return
        count, chain = 0, None
        for item in records(data):
            if item[0] == "torn":
                print(json.dumps({"torn": item[1], "bytes": item[2]}))
                break
            record = parse(item[1], item[2])
            count, chain = count + 1, item[3]
            if command == "show":
                print(json.dumps({"offset": item[0], **record}, sort_keys=True, ensure_ascii=False))
        if command == "verify":
            signatures = check_signatures(data)
            print(f"{count} records, chain {chain.hex()}" + (f", {signatures} right signatures" if signatures else ""))
    except Damage as damage:
        sys.exit(f"{path}: {damage}")


if __name__ == "__main__":
    main()
