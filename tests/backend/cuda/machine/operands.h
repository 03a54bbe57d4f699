// What an operator of Jittor's was given, and which of it each launch gets: the bytes that it moves can be counted then.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "recorder.h"

namespace cuda_machine {

struct Range {
    uintptr_t first, end;
};
inline std::vector<Range> operands;  // of the operator that runs

template <class Var>
void add_operand(Var* var) {
    const uintptr_t first = (uintptr_t)var->mem_ptr;
    operands.push_back({first, first + var->size});
    machine_record("operand %zu, %zu", (size_t)first, (size_t)var->size);
}

// Of a fused operator, what lies in memory: what its parts hand to each other doesn't.
template <class Operator>
auto add_operands(Operator* op, int) -> decltype(op->vars, void()) {
    for (auto& each : op->vars)
        if (each.type != 1) add_operand(each.var);
}
template <class Operator>
void add_operands(Operator* op, long) {
    for (auto* var : op->inputs()) add_operand(var);
    for (auto* var : op->outputs()) add_operand(var);
}

template <class Operator>
void begin(const char* name, Operator* op) {
    operands.clear();
    machine_record("operator %s", name);
    add_operands(op, 0);
}

// Addresses within what the operator was given, wherever they stand in an argument of a kernel.
template <class Argument>
void record_addresses(const Argument& argument) {
    for (size_t at = 0; at + sizeof(uintptr_t) <= sizeof argument; at += sizeof(uintptr_t)) {
        uintptr_t address;
        memcpy(&address, (const char*)&argument + at, sizeof address);
        for (const Range& range : operands)
            if (address >= range.first && address < range.end) {
                machine_record("gets %zu", (size_t)address);
                break;
            }
    }
}

}  // namespace cuda_machine
