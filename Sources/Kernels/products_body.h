// The bodies of products.h. They are a part of floats_body.h for each instruction set. LOW and HIGH interleave the lower and the upper halves of two
// vectors. TILE_ROWS is chosen so that the registers hold the sums of TILE_ROWS rows by two vectors, and what these are made of.

#define PANEL (2 * LANES)

// Transposes LANES vectors: log₂ LANES times, each vector of the first half is interleaved with its counterpart in the second half.
INLINE void NAME(transpose)(VF v[LANES]) {
    VF t[LANES];
#pragma clang loop unroll(full)
    for (int step = 1; step < LANES; step *= 2) {
#pragma clang loop unroll(full)
        for (int i = 0; i < LANES / 2; i++) {
            t[2 * i] = LOW(v[i], v[i + LANES / 2]);
            t[2 * i + 1] = HIGH(v[i], v[i + LANES / 2]);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < LANES; i++) v[i] = t[i];
    }
}

INLINE VF NAME(weights)(const ob_matrix *w, size_t at, float scale, int fixed, int perturbed) {
    VF v = fixed ? __builtin_convertvector(*(const VI *)(w->fixed + at), VF) * SPLAT(w->fixed_scale) : LOAD(w->floats + at);
    return perturbed ? FMA(LOAD8(w->direction + at), SPLAT(scale), v) : v;
}

INLINE float NAME(weight)(const ob_matrix *w, size_t at, float scale) {
    float v = w->floats ? w->floats[at] : (float)w->fixed[at] * w->fixed_scale;
    return w->direction ? v + scale * (float)w->direction[at] : v;
}

INLINE void NAME(pack_weights)(const ob_matrix *w, float scale, size_t output, size_t input, size_t depth, float *panel, int fixed,
                               int perturbed) {
    const size_t stride = w->stride ? w->stride : w->inputs;
    for (size_t i = 0; i < depth; i += LANES) {
        VF v[LANES];
        if (output + LANES <= w->outputs && i + LANES <= depth) {
#pragma clang loop unroll(full)
            for (size_t o = 0; o < LANES; o++) v[o] = NAME(weights)(w, (output + o) * stride + input + i, scale, fixed, perturbed);
        } else {
            for (size_t o = 0; o < LANES; o++) {
                v[o] = SPLAT(0);
                for (size_t l = 0; l < LANES && i + l < depth && output + o < w->outputs; l++)
                    v[o][l] = NAME(weight)(w, (output + o) * stride + input + i + l, scale);
            }
        }
        NAME(transpose)(v);
        if (i + LANES <= depth) {
#pragma clang loop unroll(full)
            for (size_t l = 0; l < LANES; l++) STORE(panel + (i + l) * PANEL, v[l]);
        } else {
            for (size_t l = 0; i + l < depth; l++) STORE(panel + (i + l) * PANEL, v[l]);
        }
    }
}

// Packs half a panel: LANES outputs from `output` on, for each of `depth` inputs from `input` on, perturbed with this sign. Missing outputs are
// zeros.
TARGET static void NAME(pack)(const ob_matrix *w, float sign, size_t output, size_t input, size_t depth, float *panel) {
    const float scale = sign * w->direction_scale;
    if (w->floats) {
        if (w->direction) NAME(pack_weights)(w, scale, output, input, depth, panel, 0, 1);
        else NAME(pack_weights)(w, scale, output, input, depth, panel, 0, 0);
    } else if (w->direction) {
        NAME(pack_weights)(w, scale, output, input, depth, panel, 1, 1);
    } else {
        NAME(pack_weights)(w, scale, output, input, depth, panel, 1, 0);
    }
}

// y = adds·y + x·panel for `rows` rows, over the whole width of the panel. The panel's rows are `step` apart. All sums stay in registers.
INLINE void NAME(tile)(const float *x, size_t stride, const float *panel, size_t step, size_t depth, float *y, size_t y_stride, int adds,
                       const int rows) {
    VF left[TILE_ROWS], right[TILE_ROWS];
    // One pointer for each four rows: an index for each row would not fit the registers.
    const float *part[4] = {x, x + 4 * stride, x + 8 * stride, x + 12 * stride};
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) left[r] = right[r] = SPLAT(0);
#pragma clang loop unroll(disable)
    for (size_t i = 0; i < depth; i++, panel += step) {
        const VF l = LOAD(panel), h = LOAD(panel + LANES);
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++) {
            const VF value = SPLAT(part[r / 4][(size_t)(r % 4) * stride + i]);
            left[r] = FMA(value, l, left[r]);
            right[r] = FMA(value, h, right[r]);
        }
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
        float *to = y + (size_t)r * y_stride;
        STORE(to, adds ? LOAD(to) + left[r] : left[r]);
        STORE(to + LANES, adds ? LOAD(to + LANES) + right[r] : right[r]);
    }
}

TARGET __attribute__((noinline)) static void NAME(tile_of)(size_t rows, const float *x, size_t stride, const float *panel, size_t step,
                                                           size_t depth, float *y, size_t y_stride, int adds) {
    switch (rows) {
#define CASE(n) case n: NAME(tile)(x, stride, panel, step, depth, y, y_stride, adds, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if TILE_ROWS > 6
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#if TILE_ROWS > 12
        CASE(13) CASE(14)
#endif
#undef CASE
    }
}

INLINE void NAME(add_terms)(const ob_rank1_terms *terms, size_t row, size_t rows, size_t output, size_t outputs, float *y, size_t y_stride) {
    for (size_t r = 0; r < rows; r++)
        if (terms->a[row + r]) NAME(add_scaled_i8)(y + r * y_stride, terms->a[row + r] + output, terms->scales[row + r], outputs);
}

INLINE VF NAME(with_term)(VF v, const ob_rank1_terms *terms, size_t row, size_t output) {
    if (!terms || !terms->a[row]) return v;
    return FMA(LOAD8(terms->a[row] + output), SPLAT(terms->scales[row]), v);
}

// Fetches lines of y. Otherwise stores would wait for them, and loads whose addresses look like theirs would wait too.
INLINE void NAME(fetch)(const float *y, size_t stride, size_t rows, size_t outputs) {
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < outputs; o += 16) __builtin_prefetch(y + r * stride + o, 1);
}

// Whether to read the weights one after the other, straight from memory. That is best for one or two rows, as when a text is written.
INLINE int NAME(is_streamed)(const ob_matrix *w, size_t rows, const ob_rank1_terms *terms) {
    return rows <= 2 && w->floats && !w->direction && !w->stride && !terms;
}

TARGET static void NAME(stream)(const float *x, size_t x_stride, size_t rows, const ob_matrix *w, float *y, size_t y_stride, int accumulate) {
    for (size_t o = 0; o < w->outputs; o++)
        for (size_t r = 0; r < rows; r++) {
            const float sum = NAME(dot_inline)(x + r * x_stride, w->floats + o * w->inputs, w->inputs);
            y[r * y_stride + o] = accumulate ? y[r * y_stride + o] + sum : sum;
        }
}

TARGET static void NAME(stream_gated)(int kind, const float *x, size_t x_stride, size_t rows, const ob_matrix *gate, const ob_matrix *up, float *y,
                                       size_t y_stride) {
    for (size_t from = 0; from < gate->outputs; from += LANES) {
        const size_t count = gate->outputs - from < LANES ? gate->outputs - from : LANES;
        for (size_t r = 0; r < rows; r++) {
            VF g = SPLAT(0), u = SPLAT(0);
            for (size_t o = 0; o < count; o++) {
                g[o] = NAME(dot_inline)(x + r * x_stride, gate->floats + (from + o) * gate->inputs, gate->inputs);
                u[o] = NAME(dot_inline)(x + r * x_stride, up->floats + (from + o) * gate->inputs, gate->inputs);
            }
            const VF activated = NAME(activation)(g, kind) * u;
            for (size_t o = 0; o < count; o++) y[r * y_stride + from + o] = activated[o];
        }
    }
}

TARGET static void NAME(product)(const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *w, const ob_rank1_terms *terms,
                                 float *y, size_t y_stride, int accumulate, float *panels) {
    if (NAME(is_streamed)(w, rows, terms)) {
        NAME(stream)(x, x_stride, rows, w, y, y_stride, accumulate);
        return;
    }
    const struct product_blocks blocks = product_blocks(w->inputs, PRODUCT_DEPTH_MAX);
    for (size_t from = 0; from < w->outputs; from += blocks.outputs) {
        const size_t group = w->outputs - from < blocks.outputs ? w->outputs - from : blocks.outputs;
        for (size_t first = 0; first < w->inputs; first += blocks.depth) {
            const size_t depth = w->inputs - first < blocks.depth ? w->inputs - first : blocks.depth;
            const int adds = accumulate || first > 0, is_last = first + depth == w->inputs;
            for (int side = 0; side < 2; side++) {
                const struct product_side own = product_side(side, rows, w->direction ? plus : rows, TILE_ROWS);
                if (own.tiles == 0) continue;
                for (size_t o = 0; o < group; o += PANEL) {
                    NAME(pack)(w, own.sign, from + o, first, depth, panels + o * depth);
                    NAME(pack)(w, own.sign, from + o + LANES, first, depth, panels + o * depth + LANES);
                }
                const size_t band = blocks.rows / TILE_ROWS;
                for (size_t start = 0; start < own.tiles; start += band)
                    for (size_t o = 0; o < group; o += PANEL)
                        for (size_t t = start; t < own.tiles && t < start + band; t++) {
                            const size_t row = product_row(own, t), count = product_row(own, t + 1) - row;
                            const size_t outputs = group - o < PANEL ? group - o : PANEL;
                            const float *in = x + row * x_stride + first;
                            float *to = y + row * y_stride + from + o;
                            if (outputs == PANEL) {
                                NAME(fetch)(to, y_stride, count, outputs);
                                NAME(tile_of)(count, in, x_stride, panels + o * depth, PANEL, depth, to, y_stride, adds);
                            } else {
                                _Alignas(64) float part[TILE_ROWS * PANEL];
                                NAME(tile_of)(count, in, x_stride, panels + o * depth, PANEL, depth, part, PANEL, 0);
                                for (size_t r = 0; r < count; r++)
                                    for (size_t j = 0; j < outputs; j++)
                                        to[r * y_stride + j] = (adds ? to[r * y_stride + j] : 0) + part[r * PANEL + j];
                            }
                            if (terms && is_last) NAME(add_terms)(terms, row, count, from + o, outputs, to, y_stride);
                        }
            }
        }
    }
}

// Activates a tile of gates and ups. It has `outputs` outputs, at most LANES.
INLINE void NAME(activate)(int kind, float *part, const ob_rank1_terms *gate_terms, const ob_rank1_terms *up_terms, size_t row, size_t rows,
                           size_t output, size_t outputs, float *y, size_t y_stride) {
    if (outputs == LANES) {
        for (size_t r = 0; r < rows; r++) {
            const VF g = NAME(with_term)(LOAD(part + r * PANEL), gate_terms, row + r, output);
            const VF u = NAME(with_term)(LOAD(part + r * PANEL + LANES), up_terms, row + r, output);
            STORE(y + r * y_stride, NAME(activation)(g, kind) * u);
        }
        return;
    }
    if (gate_terms) NAME(add_terms)(gate_terms, row, rows, output, outputs, part, PANEL);
    if (up_terms) NAME(add_terms)(up_terms, row, rows, output, outputs, part + LANES, PANEL);
    for (size_t r = 0; r < rows; r++) {
        const VF activated = NAME(activation)(LOAD(part + r * PANEL), kind) * LOAD(part + r * PANEL + LANES);
        for (size_t o = 0; o < outputs; o++) y[r * y_stride + o] = activated[o];
    }
}

TARGET static void NAME(gated_product)(int kind, const float *x, size_t x_stride, size_t rows, size_t plus, const ob_matrix *gate, const ob_matrix *up,
                                        const ob_rank1_terms *gate_terms, const ob_rank1_terms *up_terms, float *y, size_t y_stride,
                                        float *panels) {
    if (NAME(is_streamed)(gate, rows, gate_terms) && NAME(is_streamed)(up, rows, up_terms)) {
        NAME(stream_gated)(kind, x, x_stride, rows, gate, up, y, y_stride);
        return;
    }
    // The whole depth is done at once, so that the sums can be activated as they leave the tile.
    const size_t depth = gate->inputs;
    const struct product_blocks blocks = product_blocks(depth, depth);
    const size_t step = blocks.outputs / 2, band = blocks.rows / TILE_ROWS;
    for (size_t from = 0; from < gate->outputs; from += step) {
        const size_t group = gate->outputs - from < step ? gate->outputs - from : step;
        for (int side = 0; side < 2; side++) {
            const struct product_side own = product_side(side, rows, gate->direction || up->direction ? plus : rows, TILE_ROWS);
            if (own.tiles == 0) continue;
            for (size_t o = 0; o < group; o += LANES) {
                NAME(pack)(gate, own.sign, from + o, 0, depth, panels + 2 * o * depth);
                NAME(pack)(up, own.sign, from + o, 0, depth, panels + 2 * o * depth + LANES);
            }
            for (size_t start = 0; start < own.tiles; start += band)
                for (size_t o = 0; o < group; o += LANES)
                    for (size_t t = start; t < own.tiles && t < start + band; t++) {
                        const size_t row = product_row(own, t), count = product_row(own, t + 1) - row;
                        const size_t outputs = group - o < LANES ? group - o : LANES;
                        float *to = y + row * y_stride + from + o;
                        _Alignas(64) float part[TILE_ROWS * PANEL];
                        NAME(fetch)(to, y_stride, count, outputs);
                        NAME(tile_of)(count, x + row * x_stride, x_stride, panels + 2 * o * depth, PANEL, depth, part, PANEL, 0);
                        NAME(activate)(kind, part, gate_terms, up_terms, row, count, from + o, outputs, to, y_stride);
                    }
        }
    }
}

// Computes attention as if only these queries and the keys that they see existed. `first` is the number of the first of these keys.
TARGET static void NAME(attend_block)(const float *q, size_t q_stride, size_t rows, const float *k, const float *v, size_t kv_stride, size_t before,
                                      size_t first, const ob_attention *form, float *scratch, float *out, size_t out_stride) {
    const size_t heads = form->heads, kv_heads = form->kv_heads, head_size = form->head_size;
    const size_t count = before + rows, stride = ATTENTION_STRIDE(count), tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    float *scores = scratch + ob_product_scratch(head_size);
    for (size_t h = 0; h < heads; h++) {
        const float *kh = k + h / (heads / kv_heads) * head_size, *vh = v + h / (heads / kv_heads) * head_size;
        const ob_matrix keys = {.outputs = count, .inputs = head_size, .stride = kv_stride, .floats = kh};
        NAME(product)(q + h * head_size, q_stride, rows, rows, &keys, NULL, scores, stride, 0, scratch);
        for (size_t r = 0; r < rows; r++) {
            const size_t visible = before + r + 1, hidden = form->window && visible > form->window ? visible - form->window : 0;
            NAME(probabilities)(scores + r * stride + hidden, first + hidden, visible - hidden, h, form);
            for (size_t i = 0; i < hidden; i++) scores[r * stride + i] = 0;
            // The row's tile reads as many keys as the tile's last row sees.
            for (size_t i = visible; i < count && i < visible + TILE_ROWS; i++) scores[r * stride + i] = 0;
        }
        for (size_t t = 0; t < tiles; t++) {
            const size_t row = t * rows / tiles, end = (t + 1) * rows / tiles;
            float *to = out + row * out_stride + h * head_size;
            size_t i = 0;
            for (; i + PANEL <= head_size; i += PANEL)
                NAME(tile_of)(end - row, scores + row * stride, stride, vh + i, kv_stride, before + end, to + i, out_stride, 0);
            for (size_t r = 0; i < head_size && r < end - row; r++) {
                for (size_t j = i; j < head_size; j++) to[r * out_stride + j] = 0;
                for (size_t l = 0; l < before + end; l++)
                    NAME(add_scaled_inline)(to + r * out_stride + i, vh + l * kv_stride + i, scores[(row + r) * stride + l], head_size - i);
            }
        }
    }
}

TARGET static void NAME(attend_rows)(const float *q, size_t q_stride, size_t rows, const float *k, const float *v, size_t kv_stride, size_t before,
                                     const ob_attention *form, float *scratch, float *out, size_t out_stride) {
    if (!form->window || before + rows <= form->window) {
        NAME(attend_block)(q, q_stride, rows, k, v, kv_stride, before, 0, form, scratch, out, out_stride);
        return;
    }
    // A step has as many queries as the window is wide, so that half of the scores are useful.
    const size_t step = form->window < ATTENTION_BLOCK ? ATTENTION_BLOCK : form->window;
    for (size_t row = 0; row < rows; row += step) {
        const size_t own = rows - row < step ? rows - row : step, visible = before + row + 1;
        const size_t first = visible > form->window ? visible - form->window : 0;
        NAME(attend_block)(q + row * q_stride, q_stride, own, k + first * kv_stride, v + first * kv_stride, kv_stride, before + row - first,
                           first, form, scratch, out + row * out_stride, out_stride);
    }
}

TARGET static void NAME(dots_i8)(const float *x, size_t stride, size_t rows, const int8_t *b, size_t n, float scale, float *out) {
    size_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * stride) {
        VF sums[4] = {{0}, {0}, {0}, {0}};
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            const VF factor = LOAD8(b + i);
#pragma clang loop unroll(full)
            for (size_t k = 0; k < 4; k++) sums[k] = FMA(LOAD(x + k * stride + i), factor, sums[k]);
        }
        for (size_t k = 0; k < 4; k++) {
            float s = NAME(total)(sums[k]);
            for (size_t j = i; j < n; j++) s += x[k * stride + j] * b[j];
            out[r + k] = scale * s;
        }
    }
    for (; r < rows; r++, x += stride) out[r] = scale * NAME(dot_i8)(x, b, n);
}

#undef PANEL
