// Included before every operator that Jittor writes. Jittor never asks whether a kernel was started: one that was not
// leaves its results as they were, without a word. Here the operator that it belongs to ends the run, by name.
#pragma once
#include <cuda_runtime.h>

#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

namespace segnext {

// Asks when the operator's function is left; costs no synchronisation.
struct LaunchCheck {
    const char* source;

    ~LaunchCheck() noexcept(false) {
        const cudaError_t error = cudaGetLastError();
        if (error == cudaSuccess || std::uncaught_exceptions()) return;
        const char* name = strrchr(source, '/');
        throw std::runtime_error(std::string("a kernel of ") + (name ? name + 1 : source) +
                                 " could not be started: " + cudaGetErrorString(error));
    }
};

}  // namespace segnext
