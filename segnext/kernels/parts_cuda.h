// The second stage of sums on CUDA: what blocks have added up, each a part, becomes the totals of many arrays in one launch.
// The order is fixed, so the bits are the same every time.
#pragma once

namespace segnext {

// total[f] = the sum of parts[p * figures + f] over `count` parts.
struct Sum {
    const float* parts;
    float* total;
    int figures, count;
};

struct Sums {
    static constexpr int MOST = 24;
    Sum sums[MOST];
    int number, blocks;

    Sums() : number(0), blocks(0) {}
    void add(const float* parts, float* total, int figures, int count) {
        sums[number++] = {parts, total, figures, count};
        blocks += blocks_of(figures);
    }
    static __host__ __device__ int blocks_of(int figures) { return (figures + 255) / 256; }
};

static __global__ void __launch_bounds__(256) add_parts(Sums all) {
    int block = blockIdx.x, i = 0;
    while (block >= Sums::blocks_of(all.sums[i].figures)) block -= Sums::blocks_of(all.sums[i++].figures);
    const Sum own = all.sums[i];
    const int figure = block * 256 + threadIdx.x;
    if (figure >= own.figures) return;
    float sum = 0.f;
    for (int p = 0; p < own.count; p++) sum += own.parts[(size_t)p * own.figures + figure];
    own.total[figure] = sum;
}

inline void launch(const Sums& all) { add_parts<<<all.blocks, 256>>>(all); }

// Hands out the parts of an array.
struct Room {
    float* next;
    float* take(size_t count) { return (next += count) - count; }
};

}  // namespace segnext
