// A cast of an array to another type, to the nearest and ties to even, on the CPU and on CUDA.
#include <cstring>

namespace segnext {

template <class From, class To>
struct Cast {
    const From* from;
    To* to;

    SEGNEXT_EACH void operator()(size_t i) const { to[i] = (To)(float)from[i]; }
};

#ifndef __CUDACC__
template <>
struct Cast<float, jittor::bfloat16> {  // Jittor's own is cut off
    const float* from;
    jittor::bfloat16* to;

    SEGNEXT_EACH void operator()(size_t i) const {
        unsigned bits;
        std::memcpy(&bits, from + i, sizeof bits);
        const bool nan = (bits & 0x7fffffff) > 0x7f800000;  // whose rounding could end in infinity
        to[i].x = nan ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
};
#endif

}  // namespace segnext
