"""Makes random blocks of every stored format, with the values that the Python package `gguf` reads from them.

    python make_dequantise.py      dequantise.bin: for each format u32 ggml type, u32 elements, u32 bytes, the bytes, the F32 values
"""

import pathlib
import struct

import gguf
import numpy as np
import torch

rng = np.random.default_rng(3)
kinds = gguf.GGMLQuantizationType
out = bytearray()
for kind in [kinds.F32, kinds.F16, kinds.BF16, kinds.Q8_0, kinds.Q4_0, kinds.Q4_1, kinds.Q5_0, kinds.Q5_1, kinds.Q4_K, kinds.Q5_K, kinds.Q6_K, kinds.Q2_K, kinds.Q3_K,
             kinds.IQ4_NL, kinds.IQ4_XS, kinds.MXFP4]:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = 256
    blocks = rng.integers(0, 256, (count // elements, size), dtype=np.uint8)
    if kind in (kinds.F32, kinds.F16, kinds.BF16):
        values = (rng.standard_normal(count) * 0.1).astype(np.float32)
        values[:8] = [0, -0.0, 1, 65504, 6e-8, 5.9e-5, -6.1e-5, 2**-24]
        blocks = {kinds.F32: values, kinds.F16: values.astype(np.float16)}.get(kind)
        blocks = gguf.quantize(values, kind) if blocks is None else blocks
        blocks = np.frombuffer(blocks.tobytes(), np.uint8).reshape(-1, size)
    else:
        # The scales must be finite, but random bits of a half may be an infinity or a NaN.
        places = {kinds.Q4_1: [0, 2], kinds.Q5_1: [0, 2], kinds.Q4_K: [0, 2], kinds.Q5_K: [0, 2], kinds.Q6_K: [208],
                  kinds.Q2_K: [80, 82], kinds.Q3_K: [108], kinds.MXFP4: []}.get(kind, [0])
        for at in places:
            halves = (rng.standard_normal(len(blocks)) * 0.01).astype(np.float16)
            blocks[:, at : at + 2] = np.frombuffer(halves.tobytes(), np.uint8).reshape(-1, 2)
    if kind == kinds.MXFP4:
        blocks[:, 0] = [0, 1, 2, 120, 127, 130, 200, 250]  # the largest have no finite products
    raw = blocks.tobytes()
    values = gguf.dequantize(np.frombuffer(raw, np.uint8) if kind != kinds.F32 else np.frombuffer(raw, np.float32), kind)
    values = np.asarray(values, dtype="<f4").reshape(-1)
    assert len(values) == count and np.isfinite(values).all(), kind
    out += struct.pack("<III", kind, count, len(raw)) + raw + values.tobytes()
# All 8-bit floats but infinities and NaN, whose bits have more than one form.
for number, dtype in ((1000, torch.float8_e4m3fn), (1001, torch.float8_e5m2)):
    raw = torch.arange(256, dtype=torch.uint8)
    values = raw.view(dtype).float()
    raw, values = raw[values.isfinite()], values[values.isfinite()]
    out += struct.pack("<III", number, len(raw), len(raw)) + raw.numpy().tobytes() + values.numpy().tobytes()
(pathlib.Path(__file__).parent / "dequantise.bin").write_bytes(out)
