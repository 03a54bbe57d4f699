#!/bin/bash
# What a GPU machine without network needs for the first session: this project, its wheels with those of CUDA, and the
# headers of Python, which a bare machine lacks. There: tar xf segnext-gpu.tar && ./segnext/unpack.sh
#
#   .ci/gpu_pack.sh [FOLDER]       by default outputs/gpu-pack; PyTorch is taken from the machine
set -eu
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-outputs/gpu-pack}") python=${PYTHON:-python}
rm -rf "$out/segnext" && mkdir -p "$out/segnext/wheels"
git archive HEAD | tar -x -C "$out/segnext"
# Jittor and others come as sources: what can't be had as a wheel is built here.
"$python" -m pip wheel -q --wheel-dir "$out/segnext/wheels" "${EXTRAS:-.[dev,cuda13]}" setuptools wheel
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
tar -C "$(dirname "$include")" -chf "$out/segnext/python-headers.tar" "$(basename "$include")"
cat > "$out/segnext/unpack.sh" <<'EOF'
#!/bin/bash
# Installs into .venv beside this file; then: make gpu MINUTES=9 ARGS=outputs/gpu/first
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install -q --no-index --find-links wheels --editable '.[dev,cuda13]'
touch .venv/bin/.installed
include=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -e "$include/Python.h" ] || { mkdir -p "$include" && tar -C "$(dirname "$include")" -xf python-headers.tar; }
echo "ready: make gpu MINUTES=9 ARGS=outputs/gpu/first"
EOF
chmod +x "$out/segnext/unpack.sh"
tar -C "$out" -cf "$out/segnext-gpu.tar" segnext
du -sh "$out/segnext-gpu.tar"
