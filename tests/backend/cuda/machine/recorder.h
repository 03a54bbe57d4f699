// What every part of the machine reports its work to: one line each in the file that CUDA_MACHINE_LOG names.
#pragma once

extern "C" {
void machine_record(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Whether results are computed; else all is recorded and nothing done, and arrays hold zeros.
bool machine_computes();
// Whether blocks may have so many threads; where not, it is the last error.
bool machine_starts(unsigned threads);
}
