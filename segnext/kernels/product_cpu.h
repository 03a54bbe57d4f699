// Matrix products on the CPU: C = A B in float32, for factors that lie in memory in any of the ways the model needs.
//
// The usual scheme (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008): a block of the
// inner dimension at a time, the rows of A are copied into strips of ROWS and the columns of B into panels of COLUMNS,
// so that the innermost loop reads both in order, and a tile of ROWS x COLUMNS sums stays in registers: 12 of 16 with
// AVX2, 16 of 32 with AVX-512.
#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

namespace segnext {

#ifdef __AVX512F__
constexpr int LANES = 16, ROWS = 8;
#else
constexpr int LANES = 8, ROWS = 6;
#endif
constexpr int COLUMNS = 2 * LANES;
constexpr int DEPTH = 384;   // of a block, at most
constexpr int GROUP = 8;     // panels at a time, at most
constexpr int TOGETHER = 1024;  // depths of all panels of a group: they fill a part of the second-level cache

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));
typedef float Eight __attribute__((vector_size(8 * sizeof(float)), aligned(sizeof(float))));
typedef int EightInts __attribute__((vector_size(8 * sizeof(int))));

// Where the elements along a dimension lie. A dimension may be made of three, as the pixels of a batch are: `inner`
// columns in each of `middle` rows in each image.
struct Axis {
    int inner = 1 << 30, middle = 1;
    ptrdiff_t step = 1, middle_step = 0, outer_step = 0;

    explicit Axis(ptrdiff_t step) : step(step) {}
    Axis(ptrdiff_t outer_step, int middle, ptrdiff_t middle_step, int inner, ptrdiff_t step)
        : inner(inner), middle(middle), step(step), middle_step(middle_step), outer_step(outer_step) {
        if (middle_step != inner * step) return;
        this->inner *= middle;  // rows without gaps between them are one long row
        this->middle = 1;
    }
    ptrdiff_t at(int i) const {
        if (i < inner) return i * step;
        const int row = i / inner;
        return row / middle * outer_step + row % middle * middle_step + i % inner * step;
    }
    int run(int i) const { return inner - i % inner; }  // elements from i on that are `step` apart
};

struct Matrix {
    const float* data;
    Axis rows, columns;
};

// The product. Its rows are `step` apart.
struct Result {
    float* data;
    ptrdiff_t step;
    Axis columns;
};

inline void transpose_eight(const float* from, ptrdiff_t stride, float* to, int pitch) {
    Eight r[8], s[8];
    for (int i = 0; i < 8; i++) r[i] = *(const Eight*)(from + i * stride);
    const EightInts low{0, 8, 1, 9, 4, 12, 5, 13}, high{2, 10, 3, 11, 6, 14, 7, 15};
    for (int i = 0; i < 8; i += 2) {
        s[i] = __builtin_shuffle(r[i], r[i + 1], low);
        s[i + 1] = __builtin_shuffle(r[i], r[i + 1], high);
    }
    const EightInts first{0, 1, 8, 9, 4, 5, 12, 13}, second{2, 3, 10, 11, 6, 7, 14, 15};
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = __builtin_shuffle(s[i + j], s[i + j + 2], first);
            r[i + 2 * j + 1] = __builtin_shuffle(s[i + j], s[i + j + 2], second);
        }
    const EightInts left{0, 1, 2, 3, 8, 9, 10, 11}, right{4, 5, 6, 7, 12, 13, 14, 15};
    for (int i = 0; i < 4; i++) {
        *(Eight*)(to + i * pitch) = __builtin_shuffle(r[i], r[i + 4], left);
        *(Eight*)(to + (i + 4) * pitch) = __builtin_shuffle(r[i], r[i + 4], right);
    }
}

// Copies `count` <= WIDTH lines, from line `first`, of `depth` elements each, from element `start`, so that the WIDTH
// elements of a depth lie side by side; lines that are missing are zeros. `offsets` are those of the elements.
template <int WIDTH>
void pack(const float* data, const Axis& lines, const Axis& inner, const ptrdiff_t* offsets, int first, int count,
          int start, int depth, float* packed) {
    if (count < WIDTH) std::memset(packed, 0, (size_t)depth * WIDTH * sizeof(float));
    if (lines.step == 1 && count == WIDTH && lines.run(first) >= WIDTH) {
        const float* from = data + lines.at(first);
        for (int d = 0; d < depth; d++) std::memcpy(packed + d * WIDTH, from + offsets[d], WIDTH * sizeof(float));
        return;
    }
    if (lines.step == 2 && count == WIDTH && lines.run(first) >= WIDTH) {  // of a stride of 2
        const float* from = data + lines.at(first);
        for (int d = 0; d < depth; d++)
            for (int i = 0; i < WIDTH; i++) packed[d * WIDTH + i] = from[offsets[d] + 2 * i];
        return;
    }
    if (inner.step != 1 || inner.run(start) == 1) {
        const float* from[WIDTH];
        for (int i = 0; i < count; i++) from[i] = data + lines.at(first + i);
        for (int d = 0; d < depth; d++)
            for (int i = 0; i < count; i++) packed[d * WIDTH + i] = from[i][offsets[d]];
        return;
    }
    for (int d = 0; d < depth;) {
        const int run = std::min(depth - d, inner.run(start + d));
        const float* from = data + offsets[d];
        int i = 0;
        for (; i + 8 <= count && lines.run(first + i) >= 8; i += 8) {
            const float* corner = from + lines.at(first + i);
            int e = 0;
            for (; e + 8 <= run; e += 8) transpose_eight(corner + e, lines.step, packed + (d + e) * WIDTH + i, WIDTH);
            for (; e < run; e++)
                for (int j = 0; j < 8; j++) packed[(d + e) * WIDTH + i + j] = corner[j * lines.step + e];
        }
        for (; i < count; i++) {
            const float* line = from + lines.at(first + i);
            for (int e = 0; e < run; e++) packed[(d + e) * WIDTH + i] = line[e];
        }
        d += run;
    }
}

// The panels of `width` columns that lie side by side in memory: row by row, since rows are often whole planes apart, each
// in a page of its own and all in the same few places of the caches.
inline void pack_rows(const float* data, const ptrdiff_t* offsets, int depth, int width, float* panels) {
    for (int d = 0; d < depth; d++)
        for (int v = 0; v < width; v += COLUMNS)
            std::memcpy(panels + (ptrdiff_t)v * depth + d * COLUMNS, data + offsets[d] + v, COLUMNS * sizeof(float));
}

inline void sum_tile(const float* strip, const float* panel, int depth, Lanes (&sum)[ROWS][2]) {
    for (int d = 0; d < depth; d++) {
        const Lanes left = *(const Lanes*)(panel + d * COLUMNS), right = *(const Lanes*)(panel + d * COLUMNS + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            sum[r][0] += strip[d * ROWS + r] * left;
            sum[r][1] += strip[d * ROWS + r] * right;
        }
    }
}

// Stores the sums of a tile, or adds them to what is there.
inline void store_tile(const Lanes (&sum)[ROWS][2], float* lines, ptrdiff_t step, int rows, const ptrdiff_t* offsets,
                       int columns, bool add) {
#pragma GCC unroll 2
    for (int side = 0; side < 2; side++) {
        const ptrdiff_t* to = offsets + side * LANES;
        const int width = std::min(LANES, columns - side * LANES);
        const bool whole = width == LANES && to[LANES - 1] - to[0] == LANES - 1;
        for (int r = 0; r < rows; r++) {
            float* line = lines + r * step;
            if (whole) {
                Lanes& values = *(Lanes*)(line + to[0]);
                values = add ? values + sum[r][side] : sum[r][side];
                continue;
            }
            for (int v = 0; v < width; v++) line[to[v]] = (add ? line[to[v]] : 0.f) + sum[r][side][v];
        }
    }
}

// C = A B, or C = bias + A B with a bias for each row.
inline void multiply(int rows, int inner, int columns, const Matrix& a, const Matrix& b, const Result& c,
                     const float* bias = nullptr) {
    const int strips = (rows + ROWS - 1) / ROWS, panels = (columns + COLUMNS - 1) / COLUMNS;
    const std::unique_ptr<float[]> packed(new float[(size_t)strips * ROWS * std::min(inner, DEPTH)]);
    // A job is some strips times some panels: several panels where there are many, so that long pieces of memory are
    // read and written, and a share of the strips where the panels would leave threads idle; each packs them anew.
    const int threads = omp_get_max_threads();
    const int group = std::max(1, std::min({TOGETHER / std::max(1, std::min(inner, DEPTH)), GROUP, panels / (4 * threads)}));
    const int groups = (panels + group - 1) / group;
    int shares = 1;
    while (shares < std::min(strips, threads) && groups * shares < 8 * threads && groups * shares % threads) shares++;
#pragma omp parallel
    {
        const std::unique_ptr<float[]> panel(new float[(size_t)group * COLUMNS * std::min(inner, DEPTH)]);
        ptrdiff_t along_a[DEPTH], along_b[DEPTH], along_c[GROUP * COLUMNS];
        for (int start = 0; start < inner; start += DEPTH) {
            const int depth = std::min(DEPTH, inner - start);
            for (int d = 0; d < depth; d++) along_a[d] = a.columns.at(start + d), along_b[d] = b.rows.at(start + d);
#pragma omp for
            for (int s = 0; s < strips; s++)
                pack<ROWS>(a.data, a.rows, a.columns, along_a, s * ROWS, std::min(ROWS, rows - s * ROWS), start, depth,
                           &packed[(size_t)s * ROWS * depth]);
#pragma omp for
            for (int job = 0; job < groups * shares; job++) {
                const int share = job % shares, first = job / shares * group * COLUMNS;
                const int width = std::min(group * COLUMNS, columns - first);
                for (int v = 0; v < width; v++) along_c[v] = c.columns.at(first + v);
                if (b.columns.step == 1 && b.columns.run(first) >= width && width % COLUMNS == 0)
                    pack_rows(b.data + b.columns.at(first), along_b, depth, width, panel.get());
                else
                    for (int v = 0; v < width; v += COLUMNS)
                        pack<COLUMNS>(b.data, b.columns, b.rows, along_b, first + v, std::min(COLUMNS, width - v), start,
                                      depth, &panel[v * depth]);
                for (int s = strips * share / shares; s < strips * (share + 1) / shares; s++) {
                    const float* strip = &packed[(size_t)s * ROWS * depth];
                    const int height = std::min(ROWS, rows - s * ROWS);
                    for (int v = 0; v < width; v += COLUMNS) {
                        Lanes sum[ROWS][2] = {};
                        if (bias && start == 0)
                            for (int r = 0; r < height; r++) sum[r][0] = sum[r][1] = bias[s * ROWS + r] - Lanes{};
                        sum_tile(strip, &panel[v * depth], depth, sum);
                        store_tile(sum, c.data + s * ROWS * c.step, c.step, height, along_c + v,
                                   std::min(COLUMNS, width - v), start > 0);
                    }
                }
            }
        }
    }
}

}  // namespace segnext
