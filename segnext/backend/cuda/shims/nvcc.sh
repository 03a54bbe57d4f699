#!/bin/bash
# nvcc as Jittor calls it. A real file, since Jittor resolves links to find the CUDA home. CUDA 13 needs C++17 where
# Jittor asks for 14; and nvcc looks for its own parts beside the name it is called by, hence the resolved link.
arguments=()
for argument in "$@"; do
    case "$argument" in -std=c++11 | -std=c++14) argument=-std=c++17 ;; esac
    arguments+=("$argument")
done
exec "$(readlink -f "$(dirname "$(readlink -f "$0")")/nvcc-nvidia")" "${arguments[@]}"
