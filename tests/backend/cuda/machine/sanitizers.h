// What the sanitizers are told of fibers, where a program is linked with one.
#pragma once
#include <cstddef>

extern "C" {
#define IF_LINKED __attribute__((weak))
void* __tsan_get_current_fiber() IF_LINKED;
void* __tsan_create_fiber(unsigned flags) IF_LINKED;
void __tsan_switch_to_fiber(void* fiber, unsigned flags) IF_LINKED;
void __tsan_acquire(void* address) IF_LINKED;
void __tsan_release(void* address) IF_LINKED;
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size) IF_LINKED;
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom_before, size_t* size_before) IF_LINKED;
#undef IF_LINKED
}

namespace cuda_machine {

// A fiber as the sanitizers see it: to ThreadSanitizer a thread, to AddressSanitizer a stack.
class Strand {
  public:
    Strand(const void* stack, size_t size) : stack(stack), size(size) {
        if (seen()) fiber = __tsan_create_fiber(0);
    }

    // Whether ThreadSanitizer looks on.
    static bool seen() { return __tsan_switch_to_fiber; }

    // Right before a switch into the fiber, and the first thing after it.
    void enter() {
        if (seen()) outside = __tsan_get_current_fiber(), __tsan_switch_to_fiber(fiber, NO_ORDER);
        if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&fake_outside, stack, size);
    }
    void entered() {
        if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake, &stack_outside, &size_outside);
    }

    // The same of a switch out of it.
    void leave() {
        if (seen()) __tsan_switch_to_fiber(outside, NO_ORDER);
        if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&fake, stack_outside, size_outside);
    }
    void left() {
        if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fake_outside, nullptr, nullptr);
    }

  private:
    static constexpr unsigned NO_ORDER = 1;
    const void *stack, *stack_outside = nullptr;
    size_t size, size_outside = 0;
    void *fiber = nullptr, *outside = nullptr, *fake = nullptr, *fake_outside = nullptr;
};

// What was done before a release comes before what is done after an acquire.
class Order {
  public:
    void release() {
        if (Strand::seen()) __tsan_release(this);
    }
    void acquire() {
        if (Strand::seen()) __tsan_acquire(this);
    }

  private:
    char address;
};

}  // namespace cuda_machine
