// Arrays of several sizes cast in one launch; each.h, several.h and cast.h come first.
#include "expect.h"

template <class From, class To>
void check(const char* name) {
    const size_t counts[] = {5000, 3, 300};
    const auto from = drawn<From>(5303);
    std::vector<To> to(from.size());
    segnext::Cast<From, To> casts[3];
    size_t first = 0;
    for (int n = 0; n < 3; first += counts[n++]) casts[n] = {from.data() + first, to.data() + first};
    segnext::launch(casts, counts);
    std::vector<double> expected(from.size());
    for (size_t i = 0; i < from.size(); i++) expected[i] = (float)from[i];
    expect_equal(name, to, expected);
}

int main() {
    check<float, __nv_bfloat16>("to bfloat16");
    check<float, __half>("to half");
    check<__nv_bfloat16, float>("from bfloat16");
    return failures;
}
