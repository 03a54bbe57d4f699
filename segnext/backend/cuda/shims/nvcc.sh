#!/bin/bash
# nvcc as Jittor calls it. A real file, since Jittor resolves links to find the CUDA home; and nvcc looks for its own
# parts beside the name it is called by, hence the resolved link. What is changed:
# * CUDA 13 needs C++17 where Jittor asks for 14.
# * Jittor knows no card after Hopper: the architecture is that of the card, with PTX that newer ones can translate.
# * After every operator that Jittor writes, it is asked whether its kernels were started (launch_check.h).
card=$SEGNEXT_CUDA_ARCHITECTURE
arguments=()
for argument in "$@"; do
    case "$argument" in
    -std=c++11 | -std=c++14) argument=-std=c++17 ;;
    -arch=compute_*) [ -n "$card" ] && argument="-gencode=arch=compute_$card,code=[sm_$card,compute_$card]" ;;
    -code=sm_*) [ -n "$card" ] && continue ;;
    */jit/*_op.cc)
        checked=${argument%.cc}.checked.cc
        sed -e '1i #include "segnext_launch_check.h"' \
            -e 's/::jit_run() {/&\n    segnext::LaunchCheck launch_check{__FILE__};/' "$argument" >"$checked"
        argument=$checked
        ;;
    esac
    arguments+=("$argument")
done
exec "$(readlink -f "$(dirname "$(readlink -f "$0")")/nvcc-nvidia")" "${arguments[@]}"
