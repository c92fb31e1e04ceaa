#!/usr/bin/env bash
# The core tests on 64-bit ARM, emulated, and a whole job compared with the same job on this machine.
#
#   tests/aarch64.sh                     everything below
#   tests/aarch64.sh tests/test_x.py     these tests only, with any options of pytest
#
# Debian's arm64 Python, the aarch64 wheels and qemu-user are unpacked into one folder, UPSCALE_AARCH64 or
# ~/.cache/upscale-aarch64 (1.4 GB), and kept there. Nothing is installed and apt's state is not touched: it
# gets a configuration of its own. Needs Debian 12 on x86, the network, and for the comparison a Python 3.11
# with `pip install '.[test]'`, PYTHON or python3.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
cache=${UPSCALE_AARCH64:-${XDG_CACHE_HOME:-$HOME/.cache}/upscale-aarch64}
cpu=cortex-a72

# PyTorch is only the reference here. 2.9.1 is the last whose wheel runs on this core: 2.10 stops with an
# illegal instruction (as on a real Raspberry Pi 4), and the pinned one needs CUDA's libraries on aarch64.
torch=(torch==2.9.1 filelock fsspec jinja2 markupsafe mpmath networkx sympy)
wheels=(av numpy onnxruntime click rich ai-edge-litert ai-edge-quantizer flatbuffers onnx safetensors
        pytest pytest-timeout)
tests=(tests/media/pixels/test_planes.py tests/media/input/test_source.py tests/media/output/test_sink.py
       tests/frame/test_upscaler.py tests/job/test_single.py tests/export/test_{tflite,quantize,parity}.py
       tests/backends/test_{onnx_file,backends}.py)
# Whole frames through fp32 networks take minutes each here; parity has crops of them, and `compare` whole jobs.
slow=(--deselect tests/backends/test_backends.py::test_agrees_with_torch_on_every_pixel_of_a_real_frame
      --deselect tests/export/test_quantize.py::test_close_to_float_on_a_real_frame)

refuse() {
    echo "tests/aarch64.sh: $1" >&2
    exit 2
}

# apt, reading this machine's sources into $cache/apt, as if nothing were installed.
apt() {
    APT_CONFIG=$cache/apt/conf apt-get -qq -o Debug::NoLocking=1 "$@"
}

unpack_debian() {
    rm -rf "$cache/apt" "$cache/root" "$cache/host"
    mkdir -p "$cache"/apt/{state/lists,cache/archives}/partial "$cache"/{root,host}
    : > "$cache/apt/status"
    cat > "$cache/apt/conf" <<END
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; };
APT::Sandbox::User "";
Dir::State "$cache/apt/state";
Dir::State::status "$cache/apt/status";
Dir::Cache "$cache/apt/cache";
END
    apt update
    APT_CONFIG=$cache/apt/conf apt-cache show python3.11:arm64 > "$cache/apt/python" 2>&1 ||
        refuse "these apt sources have no python3.11 for arm64: run it on Debian 12"
    (cd "$cache/apt" && apt download qemu-user-static)
    dpkg -x "$cache"/apt/qemu-user-static_*.deb "$cache/host"
    apt -y --download-only --no-install-recommends install python3.11:arm64 libstdc++6:arm64 > "$cache/apt/log"
    for package in "$cache"/apt/cache/archives/*_{arm64,all}.deb; do
        dpkg -x "$package" "$cache/root"
    done
    rm -r "$cache/apt/cache" "$cache"/apt/*.deb
}

# qemu shows the host's /proc/cpuinfo, on which the runtimes crash; files below root come first.
describe_cpu() {
    mkdir -p "$cache/root/proc"
    for core in $(seq 0 $(($(nproc --all) - 1))); do
        printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n' "$core"
        printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
        registers=$cache/root/sys/devices/system/cpu/cpu$core/regs/identification
        mkdir -p "$registers"
        echo 0x00000000410fd083 > "$registers/midr_el1"
    done > "$cache/root/proc/cpuinfo"
}

unpack_wheels() {
    rm -rf "$cache/wheels" "$cache/site"
    mkdir -p "$cache"/{wheels,site}
    grep -v '^torch==' tests/constraints.txt > "$cache/constraints.txt"
    local get=("$python" -m pip download -q --disable-pip-version-check --only-binary=:all: -d "$cache/wheels"
               -c "$cache/constraints.txt" --python-version 311 --implementation cp --abi cp311 --abi abi3 --abi none)
    for tag in manylinux_2_{17,24,26,27,28}_aarch64 manylinux2014_aarch64; do
        get+=(--platform "$tag")
    done
    "${get[@]}" "${wheels[@]}"
    "${get[@]}" --no-deps "${torch[@]}" # pip would ask for the CUDA packages of this machine
    for wheel in "$cache"/wheels/*.whl; do
        "$python" -m zipfile -e "$wheel" "$cache/site"
    done
    rm -r "$cache/wheels"
}

# Children are started through a script of this machine: its kernel cannot run an arm64 program.
write_python() {
    cat > "$cache/python" <<END
#!/bin/sh
PYTHONPATH=$cache/site\${PYTHONPATH:+:\$PYTHONPATH} exec $cache/host/usr/bin/qemu-aarch64-static -cpu $cpu \\
    -L $cache/root $cache/root/usr/bin/python3.11 "\$@"
END
    chmod +x "$cache/python"
    echo "import sys; sys.executable = '$cache/python'" > "$cache/site/sitecustomize.py"
}

prepare() {
    for tool in apt-get apt-cache dpkg; do
        command -v "$tool" > /dev/null || refuse "needs Debian 12: there is no $tool here"
    done
    local stamp
    stamp=$(cat "$0" tests/constraints.txt | sha256sum | cut -c1-16)
    [ "$(cat "$cache/stamp" 2> /dev/null)" = "$stamp" ] && return
    mkdir -p "$cache"
    rm -f "$cache/stamp"
    unpack_debian
    describe_cpu
    unpack_wheels
    write_python
    echo "$stamp" > "$cache/stamp"
}

# The same job here and there, losslessly encoded: what the network made, pixel by pixel.
compare() {
    local limit=$1
    shift
    local job=(-m upscale "$work/small.mkv" --scale 2 -c:v ffv1 --no-progress -q -y "$@")
    "$python" "${job[@]}" -o "$work/here.mkv"
    "$cache/python" "${job[@]}" -o "$work/there.mkv"
    "$python" tests/frames_differ.py "$work/here.mkv" "$work/there.mkv" --limit "$limit" --name "$*"
}

# Ten frames of a sample, small enough for an emulated processor.
write_small() {
    "$python" - "$work/small.mkv" <<END
import sys, av
from fractions import Fraction
with av.open("samples/bee_360p.mp4") as source, av.open(sys.argv[1], "w") as target:
    stream = target.add_stream("libx264", rate=25, options={"crf": "20"})
    stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
    for n, frame in zip(range(10), source.decode(video=0)):
        small = frame.reformat(width=192, height=108)
        small.pts, small.time_base = n, Fraction(1, 25)
        target.mux(stream.encode(small))
    target.mux(stream.encode(None))
END
}

prepare
if [ $# -gt 0 ]; then
    exec "$cache/python" -m pytest -p no:cacheprovider "$@"
fi
"$cache/python" -c 'import platform, av, onnxruntime as o; print(platform.machine(), av.ffmpeg_version_info, o.__version__)'
"$cache/python" -m pytest -p no:cacheprovider -q -m "not slow" --timeout 3000 "${tests[@]}" "${slow[@]}"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
write_small
compare 1 --backend onnx --precision fp32
compare 1 --backend tflite --precision fp32
compare 1 --backend onnx --precision int8
compare 1 --backend tflite --precision int8
