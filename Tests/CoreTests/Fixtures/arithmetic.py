#!/usr/bin/env python3
"""Makes arithmetic.json: what the arithmetic of docs/reference/arithmetic.md gives, computed by NumPy and Python's integers alone.

Written from the page, not from the program: the tests compare bits. Usage: python3 arithmetic.py > arithmetic.json
"""
import hashlib
import json
import struct
from fractions import Fraction
from statistics import NormalDist

import numpy as np


# Random bits

def philox(counters, key):
    """Philox4x32-10; counters: (n, 4) uint32, key: (low, high)."""
    c = [counters[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = key
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).astype(np.uint32)


def key_of(seed):
    return seed & 0xFFFFFFFF, seed >> 32


def blocks(seed, tau, role, name, tiles):
    """(tiles, 16 blocks, 4 words)"""
    machine, sample = name
    counters = np.zeros((16 * tiles, 4), np.uint32)
    counters[:, 0] = np.arange(16 * tiles)
    counters[:, 1:] = [(4 * tau + role) & 0xFFFFFFFF, sample, machine]
    return philox(counters, key_of(seed)).reshape(tiles, 16, 4)


def signs(seed, tau, role, name, n):
    words = blocks(seed, tau, role, name, -(-n // 2048)).transpose(0, 2, 1)  # tile, t, c
    bits = words[..., None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)  # tile, t, c, b: element 512·t + 32·c + b
    return 2 * bits.reshape(-1)[:n].astype(np.int64) - 1


TABLE = np.array([round(32 * NormalDist().inv_cdf((i + 0.5) / 256)) for i in range(256)], np.int64)


def gaussians(seed, tau, name, n):
    words = blocks(seed, tau, 0, name, -(-n // 256)).transpose(0, 2, 1)  # tile, t, c
    byte = words[..., None] >> (8 * np.arange(4, dtype=np.uint32)) & np.uint32(255)  # tile, t, c, k: element 64·t + 4·c + k
    return TABLE[byte.reshape(-1)[:n]]


def shaped(b, basis):
    """basis: K lists of n Int16."""
    out = []
    c = [sum(int(v[j]) * int(b[j]) for j in range(len(b))) for v in basis]
    for j in range(len(b)):
        rest = int(b[j]) * 2**28 - sum(int(v[j]) * ck for v, ck in zip(basis, c))
        out.append(max(-127, min(127, (32 * rest + 2**27) >> 28)))
    return np.array(out, np.int64)


# Adapters and orthogonal samples

def adapter(place, index, shape):
    """index: the place's own among the model's tensors, or None for `final`."""
    tau = 2**29 + 2**28 if index is None else 2**29 + index
    return {"name": place + ".adapter", "index": tau, "shape": shape, "basis": None, "place": place, "placeIndex": index}


def is_adapter(tensor):
    return "place" in tensor


def block_size(d):
    n = 1
    while n < d:
        n *= 2
    return n


def parity(x):
    for shift in (16, 8, 4, 2, 1):
        x = x ^ (x >> shift)
    return x & 1


def block_row(seed, name, n):
    machine, sample = name
    counter = np.array([[0, 4 * (2**30 - 1) + 1, sample // n, machine]], np.uint32)
    odd, add = (int(x) for x in philox(counter, key_of(seed))[0][:2])
    return (sample % n * (odd | 1) + add) % n


def orthogonal(seed, d, name):
    """The d signs of a sample over all adapters' coordinates."""
    n = block_size(d)
    machine, sample = name
    row = block_row(seed, name, n)
    hadamard = 1 - 2 * parity(row & np.arange(d, dtype=np.int64))
    return hadamard * signs(seed, 2**30 - 1, 0, (machine, sample // n), d)


def adapters_of(run):
    return sorted((t for t in run["tensors"] if is_adapter(t)), key=lambda t: t["index"])


def adapter_direction(run, tensor, name):
    n = int(np.prod(tensor["shape"]))
    if run["sampling"] != "orthogonal":
        return signs(run["seed"], tensor["index"], 0, name, n)
    before, d = 0, 0
    for other in adapters_of(run):
        before += int(np.prod(other["shape"])) if other["index"] < tensor["index"] else 0
        d += int(np.prod(other["shape"]))
    return orthogonal(run["seed"], d, name)[before:before + n]


def to_vector(w):
    """(e, integers) with w about integers·2^(e − 14). Exactly, by fractions."""
    top = max(abs(Fraction(float(x))) for x in w)
    e = 0
    if top:
        while top >= Fraction(2) ** e:
            e += 1
        while top < Fraction(2) ** (e - 1):
            e -= 1
        e = max(e, -64)
    return e, [round(Fraction(float(x)) * Fraction(2) ** (14 - e)) for x in w]


def named(text):
    return struct.pack("<H", len(text.encode())) + text.encode()


def basis_record(spaces, adapters):
    """spaces: (name, K lists of n); adapters: (place, U, V), U and V being lists of (exponent, integers)."""
    out = struct.pack("<HH", 2, len(spaces))
    for name, vectors in spaces:
        out += named(name) + struct.pack("<IH", len(vectors[0]), len(vectors))
        out += b"".join(struct.pack("<h", x) for v in vectors for x in v)
    out += struct.pack("<H", len(adapters))
    for place, u, v in adapters:
        out += named(place) + struct.pack("<IIII", len(u), len(v), len(u[0][1]), len(v[0][1]))
        for side in (u, v):
            out += b"".join(struct.pack("<b", e) for e, _ in side)
            out += b"".join(struct.pack("<h", x) for _, integers in side for x in integers)
    return out


# Tensors: dictionaries of name, index, shape, basis (K lists, or None); with place and placeIndex for adapters

def factors(run, tensor, name):
    rows, columns = tensor["shape"]
    a = signs(run["seed"], tensor["index"], 1, name, rows)
    b = signs(run["seed"], tensor["index"], 2, name, columns)
    return a, (shaped(b, tensor["basis"]) if tensor["basis"] else b)


def fraction_bits(run, tensor):
    """F of the whole run, as the page says it; for vectors of a shaped run Z is then ±32. Adapters have F = 0."""
    if is_adapter(tensor):
        return 0
    shaped_run = run["family"] == "rank1" and any(t["basis"] for t in run["tensors"])
    return 5 if run["family"] == "gaussian" or shaped_run else 0


def direction(run, tensor, name):
    """Z = z·2^F, flat."""
    if is_adapter(tensor):
        return adapter_direction(run, tensor, name)
    n = int(np.prod(tensor["shape"]))
    scale = 2 ** fraction_bits(run, tensor)
    if run["family"] == "gaussian":
        return gaussians(run["seed"], tensor["index"], name, n)
    if run["family"] == "rank1" and len(tensor["shape"]) == 2:
        a, b = factors(run, tensor, name)
        return np.outer(a, b if tensor["basis"] else b * scale).reshape(-1)
    return signs(run["seed"], tensor["index"], 0, name, n) * scale


# Fixed point and steps

def to_fixed(w):
    """w: float32 array. Exactly, by fractions."""
    top = max((abs(Fraction(float(x))) for x in w), default=Fraction(0))
    s = 29
    if top:
        e = 0
        while top >= Fraction(2) ** e:
            e += 1
        while top < Fraction(2) ** (e - 1):
            e -= 1
        s = 29 - e
    return s, np.array([round(Fraction(float(x)) * Fraction(2) ** s) for x in w], np.int64)  # round: ties to even


def wrap(x):
    return (x + 2**31) % 2**32 - 2**31


def delta(total, m, h):
    if h >= 0:
        return m * total * 2**h
    return (m * total + 2 ** (-h - 1)) >> -h


def sum_of(run, tensor, contributions):
    total = np.zeros(int(np.prod(tensor["shape"])), np.int64)
    for machine, first, q in contributions:
        for i, byte in enumerate(q):
            if byte != -128:
                total += byte * direction(run, tensor, (machine, (first + i) % 2**32))
    return total


def change(run, tensor, s, k, record, sign):
    m, e = record["step"]
    h = e + s - fraction_bits(run, tensor)
    total = sum_of(run, tensor, record["contributions"])
    return np.array([wrap(int(x) - sign * delta(int(t), m, h)) for x, t in zip(k, total)], np.int64)


def momentum_fraction(cap, t):
    """mu_t in units of 2^-16."""
    return min(65536 * t // (t + 3), int(Fraction(cap) * 65536)) if t >= 0 else 0


def replayed(run, exponents, start, records):
    """The integers after each of the records, which are the rounds in force: pairs (number, record)."""
    values = start
    velocities = [[0] * len(k) for k in start]
    t, last = -1, -1
    for number, record in records:
        t = t + 1 if number == last + 1 else 0
        last = number
        if run["momentum"] is None:
            values = [change(run, x, s, k, record, 1) for x, s, k in zip(run["tensors"], exponents, values)]
        else:
            before, now = (momentum_fraction(run["momentum"], i) for i in (t - 1, t))
            m, e = record["step"]
            moved = []
            for i, tensor in enumerate(run["tensors"]):
                total = sum_of(run, tensor, record["contributions"])
                D = [delta(int(x), m, e + exponents[i] - fraction_bits(run, tensor)) for x in total]
                v = [wrap(((before * v + 2**15) >> 16) - d) for v, d in zip(velocities[i], D)]
                velocities[i] = v
                moved.append(np.array([wrap(int(k) - d + ((now * v + 2**15) >> 16)) for k, v, d in zip(values[i], v, D)], np.int64))
            values = moved
        yield values


def weights(tensor, magnitude):
    """Floats that any language can make: 24-bit integers times a power of two."""
    n = int(np.prod(tensor["shape"]))
    mixed = (np.arange(n, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(tensor["index"])) & np.uint64(0xFFFFFFFF)
    return ((mixed >> np.uint64(8)).astype(np.int64) - 2**23).astype(np.float32) * np.float32(2.0**magnitude)


def little_endian(k):
    return np.asarray(k).astype("<i4").tobytes()


def digest(tensors, exponents, values):
    hash = hashlib.sha256(b"onebyte parameters 1" + struct.pack("<I", len(tensors)))
    for t, s, k in sorted(zip(tensors, exponents, values), key=lambda x: x[0]["index"]):
        name = t["name"].encode()
        hash.update(struct.pack("<II", t["index"], len(name)) + name + struct.pack("<I", len(t["shape"])))
        hash.update(b"".join(struct.pack("<Q", d) for d in t["shape"]))
        hash.update(struct.pack("<i", s) + hashlib.sha256(little_endian(k)).digest())
    return hash.hexdigest()


def finish(run):
    """Adds the results to a run: digests before, after every round, with each machine taken out again, and with some rounds void."""
    run.setdefault("momentum", None)
    fixed = [
        (24, np.zeros(int(np.prod(t["shape"])), np.int64)) if is_adapter(t) else to_fixed(weights(t, run["magnitude"]))
        for t in run["tensors"]
    ]
    exponents, start = [f[0] for f in fixed], [f[1] for f in fixed]

    def replay(records):
        values, digests = start, []
        for values in replayed(run, exponents, start, records):
            digests.append(digest(run["tensors"], exponents, values))
        return values, digests

    run["exponents"] = exponents
    run["before"] = digest(run["tensors"], exponents, start)
    rounds = list(enumerate(run["rounds"]))
    values, run["after"] = replay(rounds)
    run["integers"] = [[int(x) for x in k[:8]] for k in values]
    run["without"] = {}
    for machine in sorted({c[0] for r in run["rounds"] for c in r["contributions"]}):
        rest = [(i, dict(r, contributions=[c for c in r["contributions"] if c[0] != machine])) for i, r in rounds]
        run["without"][str(machine)] = replay(rest)[1][-1]
    # A rewind makes a third of the rounds void before the last third comes.
    run["void"] = list(range(len(rounds) // 3, 2 * len(rounds) // 3))
    run["rewound"] = replay([(i, r) for i, r in rounds if i not in run["void"]])[1][-1]
    return run


def written(run):
    """A finished run as the tests read it."""
    for tensor in run["tensors"]:
        tensor["basis"] = np.array(tensor["basis"] or [], np.int64).astype("<i2").tobytes().hex()
    for record in run["rounds"]:
        record["contributions"] = [{"machine": m, "first": f, "bytes": hex8(q)} for m, f, q in record["contributions"]]
    return run


def hex8(values):
    return np.asarray(values).astype(np.int8).tobytes().hex()


def main():
    random = np.random.default_rng(20260611)

    def integer(low, high):
        return int(random.integers(low, high, dtype=np.int64))

    def basis(width, components, size):
        return [[integer(-size, size + 1) for _ in range(width)] for _ in range(components)]

    out = {"table": TABLE.tolist()}

    out["philox"] = []
    for _ in range(8):
        key, counter = random.integers(0, 2**32, 2), random.integers(0, 2**32, (1, 4))
        words = philox(counter.astype(np.uint32), [int(x) for x in key])
        out["philox"].append({"key": key.tolist(), "counter": counter[0].tolist(), "words": words[0].tolist()})

    out["signs"], out["gaussians"] = [], []
    for n in (1, 31, 64, 511, 2048, 2049, 5000):
        seed, tau, name = integer(0, 2**63 - 1), integer(0, 300), (integer(0, 2**32), integer(0, 2**32))
        entry = {"seed": seed, "index": tau, "machine": name[0], "sample": name[1], "count": n}
        z = signs(seed, tau, 0, name, n)
        out["signs"].append(dict(entry, first=hex8(z[:600]), sha256=hashlib.sha256(z.astype(np.int8).tobytes()).hexdigest()))
        z = gaussians(seed, tau, name, n)
        out["gaussians"].append(dict(entry, first=hex8(z[:300]), sha256=hashlib.sha256(z.astype(np.int8).tobytes()).hexdigest()))

    out["factors"] = []
    for rows, columns, components, size in [(5, 7, 0, 0), (64, 130, 1, 1600), (33, 576, 4, 700), (3, 257, 3, 16384), (9, 300, 2, 32767), (70, 1536, 4, 400)]:
        run = {"seed": integer(0, 2**63 - 1), "family": "rank1"}
        tensor = {"name": "m", "index": integer(0, 300), "shape": [rows, columns], "basis": basis(columns, components, size) or None}
        if size == 32767:
            tensor["basis"][0] = [-32768] * columns
        name = (integer(0, 2**32), integer(0, 2**32))
        a, b = factors(run, tensor, name)
        values = np.array(tensor["basis"] or [], np.int64).astype("<i2").tobytes().hex()
        out["factors"].append({"seed": run["seed"], "index": tensor["index"], "rows": rows, "columns": columns, "basis": values,
                               "machine": name[0], "sample": name[1], "a": hex8(a), "b": hex8(b)})

    out["fixed"] = []
    tiny = np.float32(2.0**-149)
    for w in [
        np.zeros(3, np.float32),
        np.array([1, -1, 0.5, 2.0**-30, 3 * 2.0**-30, 5 * 2.0**-30, -(2.0**-30), -3 * 2.0**-30, -0.0, 2.0**-31], np.float32),
        np.array([tiny, -3 * tiny, 7 * tiny, 0], np.float32),
        np.array([np.finfo(np.float32).max, 1, -np.finfo(np.float32).max, 1e30], np.float32),
        np.array([np.finfo(np.float32).tiny, tiny, 1e-39], np.float32),
        np.array([0.99999994, 2.0**-29 * 1.5, 2.0**-29 * 2.5, 2.0**-29 * 0.5], np.float32),
        random.standard_normal(100).astype(np.float32) * np.float32(0.03),
        (random.standard_normal(100) * 10.0 ** random.uniform(-12, 3, 100)).astype(np.float32),
    ]:
        s, k = to_fixed(w)
        with np.errstate(over="ignore"):
            back = np.array([np.float32(np.ldexp(float(x), -s)) for x in k], np.float32)
        out["fixed"].append({"floats": w.view(np.uint32).tolist(), "s": s, "integers": k.tolist(), "back": back.view(np.uint32).tolist()})

    out["codec"] = []
    for g in [0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -126.5, -127.5, 1e300, -1e300, 5e-324, 17.3, -33.49] + random.standard_normal(40).tolist():
        for S in (0, -3, 2, int(random.integers(-20, 20)), -128, 127):
            exact = Fraction(g) / Fraction(2) ** S
            out["codec"].append([struct.pack(">d", g).hex(), S, max(-127, min(127, round(exact)))])

    out["rates"] = []
    for rate in [1.0, 2.0**-20, 3.3e-5, 65535.0, 65535.4, 65535.5, 65535.6, 1e-30, 2.0**-128 * 32768, 2.0**-128 * 32767.9, 2.0**-129 * 65535.5, 5e-324, 2.0**127 * 65535, 1e300, 0.0, -1.0] + np.exp(random.uniform(-60, 60, 60)).tolist():
        best = None
        if rate > 0:
            exact = Fraction(rate)
            e = -400
            while exact >= Fraction(2) ** (e + 16):
                e += 1
            m = round(exact / Fraction(2) ** e)
            best = (32768, e + 1) if m == 65536 else (m, e)
            if m < 32768 or best[1] < -128:
                best = (0, 0)
            elif best[1] > 127:
                best = (65535, 127)
        out["rates"].append([struct.pack(">d", rate).hex(), *(best or (0, 0))])

    out["steps"] = []
    for h in [-200, -100, -64, -63, -62, -61, -50, -40, -33, -32, -31, -20, -16, -2, -1, 0, 1, 7, 15, 16, 17, 30, 31, 32, 33, 90]:
        m = integer(2**15, 2**16)
        sums = [0, 1, -1, 2**37, -(2**37), 3, -3] + [integer(-(2**b), 2**b) for b in (4, 10, 20, 24, 30, 31, 36)]
        if -16 <= h < 0:  # an exact half
            m, sums = 2**15, sums + [2 ** max(-h - 16, 0) * x for x in (1, -1, 3, -3)]
        before = [integer(-(2**31), 2**31) for _ in sums]
        after = [wrap(k - delta(t, m, h)) for k, t in zip(before, sums)]
        out["steps"].append({"multiplier": m, "exponent": h, "sums": sums, "before": before, "after": after})

    def contributions(machines, samples):
        parts = []
        for machine in machines:
            q = [max(-128, min(127, int(round(x)))) for x in random.standard_t(3, samples) * 28]
            if samples > 3:
                q[integer(0, samples)] = -128
                q[integer(0, samples)] = 0
            parts.append([machine, integer(0, 2**32), q])
        return parts

    def tensors(with_basis):
        return [
            {"name": "model.layers.1.down.weight", "index": 4, "shape": [37, 75], "basis": basis(75, 2, 3000) if with_basis else None},
            {"name": "model.layers.1.norm.weight", "index": 7, "shape": [130], "basis": None},
            {"name": "model.layers.1.q.weight", "index": 9, "shape": [20, 140], "basis": basis(140, 4, 1500) if with_basis else None},
            {"name": "model.layers.2.up.weight", "index": 11, "shape": [1, 1], "basis": None},
        ]

    out["runs"] = []
    for family, with_basis, exponents, samples in [
        ("rank1", False, (-44, -40, -38), 9), ("rank1", True, (-42, -36, -40), 17), ("rademacher", False, (-44, -41, -38), 6),
        ("gaussian", False, (-46, -40, -33), 7), ("rank1", True, (-28, -20, -100), 5), ("rademacher", False, (-20, -12, 2), 4),
        ("gaussian", False, (-24, -70, -127), 4),
    ]:
        run = {"family": family, "sampling": "random", "seed": integer(0, 2**63 - 1), "magnitude": -27, "tensors": tensors(with_basis), "rounds": []}
        for number, e in enumerate(exponents):
            machines = random.choice(6, 3, replace=False).tolist() + ([4294967295] if number == 1 else [])
            run["rounds"].append({"step": [integer(2**15, 2**16), e], "contributions": contributions(machines, samples)})
        if samples == 9:
            # A round of one byte, a round whose step is 0, a name that is there twice, and numbers that wrap.
            run["rounds"].append({"step": [40000, -36], "contributions": [[3, 4294967295, [77]]]})
            run["rounds"].append({"step": [0, 0], "contributions": contributions([0, 1], 3)})
            run["rounds"].append({"step": [33000, -38], "contributions": [[2, 5, [9, -7]], [2, 6, [11, -128]], [1, 4294967294, [1, 2, 3, 4]]]})
            run["rounds"].append({"step": [33000, -38], "contributions": [[2, 5, [-128, -128]]]})
        out["runs"].append(written(finish(run)))

    out["orthogonal"] = []
    for d in (1, 2, 3, 8, 9, 64, 100, 2049, 5000):
        n = block_size(d)
        for sample in sorted({0, n - 1, n, integer(0, 2**32), 2**32 - 1}):
            seed, machine = integer(0, 2**63 - 1), integer(0, 2**32)
            z = orthogonal(seed, d, (machine, sample))
            out["orthogonal"].append({"seed": seed, "machine": machine, "sample": sample, "count": d, "row": int(block_row(seed, (machine, sample), n)),
                                      "first": hex8(z[:300]), "sha256": hashlib.sha256(z.astype(np.int8).tobytes()).hexdigest()})

    # Runs of adapters: sampled at random beside other tensors, then orthogonal.
    places = [("model.layers.1.down.weight", 4, [6, 11]), ("model.layers.1.q.weight", 9, [3, 17]), ("final", None, [1, 40])]
    alone = [("final", None, [1, 64])]
    for family, with_basis, sampling, chosen, samples in [
        ("rank1", True, "random", places, 9), ("gaussian", False, "random", places, 5), ("rademacher", False, "random", alone, 3),
        ("rank1", False, "orthogonal", places, 40), ("gaussian", False, "orthogonal", alone, 100), ("rank1", False, "orthogonal", [("final", None, [1, 1])], 5),
    ]:
        others = [] if sampling == "orthogonal" else tensors(with_basis)
        run = {"family": family, "sampling": sampling, "seed": integer(0, 2**63 - 1), "magnitude": -27, "rounds": []}
        run["tensors"] = others + [adapter(*place) for place in chosen]
        d = sum(int(np.prod(t["shape"])) for t in adapters_of(run))
        # The samples of the second round go on where those of the first end, within a block or into the next one.
        for number, e in enumerate((-20, -33, -37, -58)):
            parts = contributions([2, 5, 4294967295], samples)
            for part in parts:
                part[1] = number * samples + part[0] % 7 if number < 2 else part[1]
            run["rounds"].append({"step": [integer(2**15, 2**16), e], "contributions": parts})
        if sampling == "orthogonal":
            # A whole block, one that wraps, a name that is there twice, and a round without a step.
            whole = [max(-127, min(127, int(x))) for x in random.standard_normal(block_size(d)) * 30]
            run["rounds"].append({"step": [50000, -36], "contributions": [[9, 3 * block_size(d), whole]]})
            run["rounds"].append({"step": [33000, -34], "contributions": [[1, 4294967294, [1, 2, 3, 4]], [2, 5, [9, -7]], [2, 6, [11, -128]]]})
            run["rounds"].append({"step": [0, 0], "contributions": contributions([0, 1], 3)})
        out["runs"].append(written(finish(run)))

    out["vectors"] = []
    for w in [
        [0.0, 0.0], [1.0, -1.0, 0.5], [0.99999, 2.0**-15, 3 * 2.0**-15, 5 * 2.0**-15, -(2.0**-15)], [2.0**-70, -3 * 2.0**-80], [2.0**63, 1.0],
        (random.standard_normal(50) * 0.04).tolist(), (random.standard_normal(50) * 300).tolist(),
    ]:
        e, integers = to_vector(w)
        out["vectors"].append({"values": [struct.pack(">d", x).hex() for x in w], "exponent": e, "integers": integers})

    def vectors(count, length):
        return [to_vector(random.standard_normal(length) * 2.0 ** integer(-8, 8)) for _ in range(count)]

    spaces = [("a:in", basis(3, 2, 900)), ("b:in", basis(5, 1, 16384))]
    adapters = [("final", vectors(1, 6), vectors(4, 6)), ("model.layers.0.down.weight", vectors(3, 6), vectors(2, 9))]
    out["basisRecords"] = [
        {"spaces": [s[0] for s in chosen], "adapters": [{"place": a[0], "shape": [len(a[1]), len(a[2])], "exponents": [v[0] for v in a[1] + a[2]],
                                                        "integers": [x for v in a[1] + a[2] for x in v[1]]} for a in adapters],
         "bytes": basis_record(chosen, adapters).hex()}
        for chosen in ([], spaces)
    ]

    # Momentum, whose fraction rises up to its cap; a round without a step, one without a value, and numbers that wrap.
    for sampling, chosen, samples, cap, count in [("orthogonal", places, 3, 0.9, 33), ("random", places, 4, 0.3, 7), ("orthogonal", [("final", None, [1, 1])], 5, 1.0, 5)]:
        run = {"family": "rank1", "sampling": sampling, "momentum": cap, "seed": integer(0, 2**63 - 1), "magnitude": -27, "rounds": []}
        run["tensors"] = [adapter(*place) for place in chosen]
        for number in range(count):
            parts = contributions([2, 5], samples)
            if number == 2:
                parts = [[m, first, [-128] * samples] for m, first, _ in parts]
            step = [0, 0] if number == 3 else [integer(2**15, 2**16), -12 if number == count - 4 else integer(-46, -22)]
            run["rounds"].append({"step": step, "contributions": parts})
        out["runs"].append(written(finish(run)))

    print(json.dumps(out, separators=(",", ":")))


if __name__ == "__main__":
    main()
