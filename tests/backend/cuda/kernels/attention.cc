// What is between the products of the attention, on small maps, against the definition; attention_cuda.h comes first.
#include "definition.h"

template <int SIDE, class T>
void check(const char* name, const segnext::Maps& maps, int shares) {
    const int c = maps.channels, lengths[3] = {7, 11, 21};
    const size_t count = (size_t)maps.planes() * maps.pixels();
    const auto a = drawn<T>(count), m = drawn<T>(count), dz = drawn<T>(count), dsum = drawn<T>(count);
    const auto shift = drawn<float>(c), square = drawn<float>(25 * c), square_bias = drawn<float>(c), bias = drawn<float>(c);
    std::vector<float> rows[3], columns[3], row_biases[3], column_biases[3];
    segnext::Strips strips;
    for (int i = 0; i < 3; i++) {
        rows[i] = drawn<float>(lengths[i] * c), columns[i] = drawn<float>(lengths[i] * c);
        row_biases[i] = drawn<float>(c), column_biases[i] = drawn<float>(c);
        for (auto taps : {&rows[i], &columns[i]})
            for (float& tap : *taps) tap /= lengths[i];
        strips.rows[i] = rows[i].data(), strips.columns[i] = columns[i].data();
        strips.row_biases[i] = row_biases[i].data(), strips.column_biases[i] = column_biases[i].data();
    }
    const segnext::Attention<SIDE> attention{maps, shares};
    const size_t figures = (size_t)shares * c;

    // Forward: 5x5 behind the GELU; the strips of what came of it, rounded; the gate.
    std::vector<T> base(count), sum(count), z(count);
    attention.square(a.data(), shift.data(), square.data(), square_bias.data(), base.data());
    attention.add_strips(base.data(), strips, sum.data(), false);
    attention.gate(m.data(), bias.data(), a.data(), shift.data(), z.data());
    Maps u(maps, [&](size_t i, int channel) { return gelu((float)a[i] + shift[channel]); });
    const Maps x(maps, [&](size_t i, int) { return (float)base[i]; });
    expect_equal(name, base, u.convolved(square, 5, 5, &square_bias).values);
    std::vector<double> sums = x.values;
    Maps row[3] = {x, x, x};
    for (int i = 0; i < 3; i++) {
        row[i] = x.convolved(rows[i], 1, lengths[i], &row_biases[i]);
        const Maps strip = row[i].convolved(columns[i], lengths[i], 1, &column_biases[i]);
        for (size_t j = 0; j < count; j++) sums[j] += strip.values[j];
    }
    expect_equal(name, sum, sums);
    const Maps gated(maps, [&](size_t i, int channel) { return ((float)m[i] + bias[channel]) * u.values[i]; });
    expect_equal(name, z, gated.values);

    // Of the gate.
    std::vector<T> again(count), dm(count), dgate(count);
    std::vector<float> parts(maps.planes()), dbias(c);
    attention.gate_gradient(m.data(), bias.data(), a.data(), shift.data(), dz.data(), again.data(), dm.data(), dgate.data(),
                            parts.data());
    add_up(parts, dbias, maps.batch);
    const Maps slope(maps, [&](size_t i, int) { return (float)dz[i]; });
    const Maps dms(maps, [&](size_t i, int) { return (float)dz[i] * u.values[i]; });
    const Maps dgates(maps, [&](size_t i, int channel) { return (float)dz[i] * ((float)m[i] + bias[channel]); });
    expect_equal(name, again, gated.values);
    expect_equal(name, dm, dms.values);
    expect_equal(name, dgate, dgates.values);
    expect_equal(name, dbias, dms.by_channel());

    // Of the strips.
    const Maps dy(maps, [&](size_t i, int) { return (float)dsum[i]; });
    std::vector<T> dbase(count);
    std::vector<float> row_parts[3], column_parts[3], row_bias_parts[3], column_bias_parts[3];
    segnext::StripParts strip_parts;
    for (int i = 0; i < 3; i++) {
        for (auto taps : {&row_parts[i], &column_parts[i]}) taps->resize(figures * lengths[i]);
        for (auto biases : {&row_bias_parts[i], &column_bias_parts[i]}) biases->resize(figures);
        strip_parts.rows[i] = row_parts[i].data(), strip_parts.columns[i] = column_parts[i].data();
        strip_parts.row_biases[i] = row_bias_parts[i].data(), strip_parts.column_biases[i] = column_bias_parts[i].data();
    }
    attention.add_strips(dsum.data(), strips, dbase.data(), true);
    attention.strip_gradients(base.data(), dsum.data(), strips, strip_parts);
    std::vector<double> dbases = dy.values;
    for (int i = 0; i < 3; i++) {
        const Maps drow = dy.convolved(columns[i], lengths[i], 1, nullptr, true);
        const Maps dx = drow.convolved(rows[i], 1, lengths[i], nullptr, true);
        for (size_t j = 0; j < count; j++) dbases[j] += dx.values[j];
        std::vector<float> taps(lengths[i] * c), biases(c);
        add_up(row_parts[i], taps, shares);
        expect_equal(name, taps, x.correlated(drow, 1, lengths[i]));
        add_up(column_parts[i], taps, shares);
        expect_equal(name, taps, row[i].correlated(dy, lengths[i], 1));
        add_up(row_bias_parts[i], biases, shares);
        expect_equal(name, biases, drow.by_channel());
        add_up(column_bias_parts[i], biases, shares);
        expect_equal(name, biases, dy.by_channel());
    }
    expect_equal(name, dbase, dbases);

    // Of the square.
    std::vector<T> da(count);
    std::vector<float> square_parts(25 * figures), bias_parts(figures), shift_parts(figures), dsquare(25 * c), figure(c);
    attention.square_gradient(a.data(), shift.data(), square.data(), dsum.data(), dz.data(), da.data(),
                              {square_parts.data(), bias_parts.data(), shift_parts.data()});
    const Maps du = dy.convolved(square, 5, 5, nullptr, true);
    const Maps das(maps, [&](size_t i, int channel) {
        return (du.values[i] + slope.values[i]) * gelu_slope((float)a[i] + shift[channel]);
    });
    expect_equal(name, da, das.values);
    add_up(square_parts, dsquare, shares);
    expect_equal(name, dsquare, u.correlated(dy, 5, 5));
    add_up(bias_parts, figure, shares);
    expect_equal(name, figure, dy.by_channel());
    add_up(shift_parts, figure, shares);
    expect_equal(name, figure, das.by_channel());
}

int main() {
    check<16, float>("small tiles", {2, 2, 20, 33}, 3);
    check<32, float>("large tiles", {1, 2, 35, 24}, 2);
    check<16, float>("one pixel", {1, 1, 1, 1}, 1);
    check<16, __half>("float16", {1, 2, 17, 16}, 1);
    check<16, __nv_bfloat16>("bfloat16", {2, 1, 16, 5}, 2);
    return failures;
}
