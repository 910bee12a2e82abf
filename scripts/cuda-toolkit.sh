#!/usr/bin/env bash
# A CUDA compiler without root and without a GPU: puts nvcc, headers and link libraries of CUDA 13.0, from the Python package
# index, into DIRECTORY. Every shell that builds with `--features cuda` first sources DIRECTORY/env.sh.
#
#     scripts/cuda-toolkit.sh DIRECTORY
#     source DIRECTORY/env.sh
#
# Needs python3 with venv, and a C compiler. The machine that runs the result needs a driver for CUDA 13 and the shared
# libraries cudart, cublas and curand.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 DIRECTORY" >&2
    exit 2
fi
mkdir -p "$1"
directory=$(cd "$1" && pwd)

packages=(
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 # the compiler
    'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*'                # headers and cudart
    'nvidia-cublas==13.0.*' 'nvidia-curand<11' 'nvidia-cuda-nvrtc==13.0.*'   # what candle links
)
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet --no-deps "${packages[@]}"

toolkit=$(echo "$directory"/venv/lib/python3*/site-packages/nvidia/cu13)
if [ ! -x "$toolkit/bin/nvcc" ]; then
    echo "$0: the packages left no $toolkit/bin/nvcc" >&2
    exit 1
fi

# Linkers look for lib*.so in lib or lib64; packages hold versioned names in lib.
ln -sfn lib "$toolkit/lib64"
for library in "$toolkit"/lib/lib*.so.*; do
    ln -sf "$(basename "$library")" "${library%%.so.*}.so"
done

# The driver's library is linked by name only: a stand-in with its soname, in which every function of the header exists.
# `cuProfilerInitialize` has left the header, but bindings still name it.
stubs=$toolkit/lib/stubs
mkdir -p "$stubs"
{
    grep -oE '\bcu[A-Z][A-Za-z0-9_]*[[:space:]]*\(' "$toolkit/include/cuda.h" | tr -d '( \t'
    sed -nE 's/^#define[[:space:]]+cu[A-Z][A-Za-z0-9_]*[[:space:]]+(cu[A-Z][A-Za-z0-9_]*)$/\1/p' "$toolkit/include/cuda.h"
    echo cuProfilerInitialize
} | sort -u | sed 's/.*/int &(void) { return 0; }/' >"$stubs/cuda.c"
cc -w -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so" "$stubs/cuda.c"

cat >"$directory/env.sh" <<END
export CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit CUDA_TOOLKIT_ROOT_DIR=$toolkit
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-80}
export PATH=$toolkit/bin:\$PATH
export LIBRARY_PATH=$toolkit/lib:$stubs\${LIBRARY_PATH:+:\$LIBRARY_PATH}
export RUSTFLAGS="\${RUSTFLAGS:+\$RUSTFLAGS }-L native=$toolkit/lib -L native=$stubs"
END
"$toolkit/bin/nvcc" --version | tail -1
echo "now: source $directory/env.sh"
