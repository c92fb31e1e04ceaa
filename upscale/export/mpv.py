"""Writes a generator as a user shader of mpv and libplacebo: one .glsl file.

The text is what mpv's manual calls a user shader ("--glsl-shaders"), as mpv's two renderers and libplacebo
(VLC 4, FFmpeg's filter) read it. Every pass hooks LUMA, the last one replaces it by one twice as large.

Two forms. `compute`: one compute pass a layer with the weights in uniform buffers, which only libplacebo
reads; it compiles in a tenth of the time of shaders with constants (ArtCNN issues 37 and 43, libplacebo
issue 340 are about that time). `portable`: fragment passes with constants, four channels each, for OpenGL,
OpenGL ES and mpv's vo=gpu. Compute passes are for Vulkan: with gpu-api=opengl Mesa 22.3's llvmpipe shows
black (no message; single passes work), which is worth another try with newer ones.

What both have to get right: the network pads with zeros between layers, where samplers repeat the edge; its
anchor is read from LUMA itself, because the planes between passes are half floats; weights and planes hold
values beyond 0…1, so that planes of integers (fbo-format=rgba16) spoil the picture.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np

from upscale.errors import UsageError
from upscale.export.tensors import Floats, Layer, Network, packed, padded

#: Textures and buffers that a pass may bind, in mpv and in libplacebo.
MAX_BINDS = 16
#: Bytes of a uniform buffer that desktop and phone GPUs hold; beyond, a storage buffer is used.
_UNIFORM_BYTES = 65536
#: Bytes of shared memory that OpenGL promises a group of threads.
_SHARED_BYTES = 32768
#: Threads on a side of a group; each computes all channels of one position.
_GROUP = 8
#: Where the picture grows by less than 1.3 on each side, players do without the network.
_WHEN = "OUTPUT.w OUTPUT.h * LUMA.w LUMA.h * / 1.69 >"


def mpv_shader(network: Network, *, portable: bool = False, licence: str = "that of the weights") -> str:
    """The text of the shader.

    Args:
        portable: fragment passes instead of compute passes.
        licence: for the comment at the top.

    Raises:
        UsageError: the network has more channels than the textures of a pass can hold.
    """
    widest = max(len(bias) for _, bias in network.layers)
    planes = -(-widest // 4)
    if portable and planes > MAX_BINDS:
        raise UsageError(f"{widest} channels are {planes} textures and players bind {MAX_BINDS}: too many")
    if not portable and _tile_bytes(planes) > _SHARED_BYTES:
        raise UsageError(f"{widest} channels do not fit the memory that a group of threads shares")
    passes = _fragment_passes(network) if portable else _compute_passes(network)
    return "\n".join([_header(network, portable, licence), *passes]) + "\n"


def _header(network: Network, portable: bool, licence: str) -> str:
    shape = f"{network.config.channels} channels, {len(network.layers)} layers"
    if portable:
        needs = "mpv with vo=gpu or gpu-next (OpenGL 3, OpenGL ES 3, Vulkan, Direct3D 11, Metal), libplacebo"
        advice = "where Vulkan is, the file that is not portable starts faster"
        settings = "vo=gpu"
    else:
        needs = "libplacebo on Vulkan: mpv with vo=gpu-next, VLC 4, FFmpeg's filter libplacebo"
        advice = "elsewhere (vo=gpu, OpenGL): upscale export --portable"
        settings = "vo=gpu-next\n//           gpu-api=vulkan"
    return f"""\
// upscale {network.name}: doubles luma with a small network trained on natural, compressed video.
// Planes between passes must be floats (the default; not fbo-format=rgba16).
// weights: {shape}, SHA-256 {network.sha256}
// licence: {licence}
// needs:   {needs};
//          {advice}
// mpv.conf: {settings}
//           glsl-shaders-append="~~/shaders/THIS_FILE.glsl\""""


def _half(config_unshuffle: int, side: str) -> str:
    """RPN: a side of the planes in which the network works."""
    size = f"LUMA.{side} LUMA.{side} 2 % +"
    return f"{size} 2 /" if config_unshuffle == 2 else size


def _directives(network: Network, step: str, binds: list[str], save: str | None, *size: str) -> str:
    lines = [f"//!DESC upscale {network.name}: {step}", "//!HOOK LUMA", f"//!WHEN {_WHEN}"]
    lines += [f"//!BIND {name}" for name in binds]
    lines += [f"//!SAVE {save}"] if save else []
    width, height, *rest = size
    return "\n".join([*lines, f"//!WIDTH {width}", f"//!HEIGHT {height}", *rest])


def _prefix(network: Network) -> str:
    """What the names of this file's textures begin with: two files may be loaded together."""
    weights = b"".join(kernel.tobytes() for kernel, _ in network.layers)
    return f"U{hashlib.sha256(weights).hexdigest()[:6].upper()}_"


# -- compute passes ----------------------------------------------------------------------------------------


def _tile_bytes(planes: int) -> int:
    return (_GROUP + 2) ** 2 * planes * 16


def _grid(planes: int) -> tuple[int, int]:
    """Columns and rows of the texels that hold the channels of one position, side by side."""
    columns = 2 ** math.ceil(math.log2(planes) / 2)
    return columns, -(-planes // columns)


def _compute_passes(network: Network) -> Iterator[str]:
    prefix, u = _prefix(network), network.config.unshuffle
    count = len(network.layers)
    for i, layer in enumerate(network.layers):
        yield _buffer(f"{prefix}B{i}", f"{prefix}W{i}", packed(layer))
    for i, layer in enumerate(network.layers):
        inputs, outputs = (n // 4 for n in padded(layer)[0].shape[1::-1])
        last = i == count - 1
        binds = ["LUMA", f"{prefix}B{i}"] + ([f"{prefix}{i - 1}"] if i else [])
        columns, rows = (2 * u, 2 * u) if last else _grid(outputs)
        size = [f"{_half(u, side)} {n} *" for side, n in (("w", columns), ("h", rows))]
        if last:
            size = ["LUMA.w 2 *", "LUMA.h 2 *"]
        yield _directives(
            network, f"layer {i + 1} of {count}", binds, None if last else f"{prefix}{i}", *size,
            f"//!COMPONENTS {1 if last else 4}",
            f"//!COMPUTE {_GROUP * columns} {_GROUP * rows} {_GROUP} {_GROUP}",
        )  # fmt: skip
        source = _grid(inputs) if i else None
        yield _compute_body(u, inputs, outputs, f"{prefix}W{i}", f"{prefix}{i - 1}", source, last)


def _buffer(name: str, variable: str, values: Floats) -> str:
    """The variable's name must be another one than the buffer's, which becomes a macro."""
    data = values.astype("<f4").tobytes()
    storage = "" if len(data) <= _UNIFORM_BYTES else "//!STORAGE\n"
    return f"//!BUFFER {name}\n//!VAR vec4 {variable}[{len(values)}]\n{storage}{data.hex()}"


def _compute_body(
    u: int, inputs: int, outputs: int, weights: str, before: str, grid: tuple[int, int] | None, last: bool
) -> str:
    """Fill shared memory with what the group's positions see, then add it up."""
    # No branches: positions outside are fetched from the edge and multiplied by zero, and what is stored
    # outside an image is dropped, in OpenGL, Vulkan and Direct3D alike.
    if grid is None:
        fill = f"tile[y][x][0] = {_unshuffled(u)} * inside;"
    else:
        columns, rows = grid
        at = f"q * ivec2({columns}, {rows}) + ivec2(i % {columns}, i / {columns})"
        fill = f"""for (int i = 0; i < {inputs}; i++)
            tile[y][x][i] = texelFetch({before}_raw, {at}, 0) * {before}_mul * inside;"""
    bias = 9 * inputs * outputs * 4
    # Names instead of an array: what has no index stays in registers.
    starts = ", ".join(f"s{o} = {weights}[{bias + o}]" for o in range(outputs))
    sums = "\n".join(
        f"            s{o} += "
        + " + ".join(f"{weights}[k + {4 * o + c}] * v.{'xyzw'[c]}" for c in range(4))
        + ";"
        for o in range(outputs)
    )
    return f"""\
shared vec4 tile[{_GROUP + 2}][{_GROUP + 2}][{inputs}];
{_luma_function()}
void hook() {{
    ivec2 size = (ivec2(LUMA_size) + 1) / 2 * {2 // u};
    ivec2 corner = ivec2(gl_WorkGroupID.xy) * {_GROUP} - 1;
    int start = int(gl_LocalInvocationIndex);
    for (int n = start; n < {(_GROUP + 2) ** 2}; n += {_GROUP**2}) {{
        int y = n / {_GROUP + 2}, x = n % {_GROUP + 2};
        ivec2 p = corner + ivec2(x, y), q = clamp(p, ivec2(0), size - 1);
        float inside = float(p == q);
        {fill}
    }}
    barrier();
    vec4 {starts};
    ivec2 t = ivec2(gl_LocalInvocationID.xy);
    int k = 0;
    for (int tap = 0; tap < 9; tap++)
        for (int i = 0; i < {inputs}; i++, k += {4 * outputs}) {{
            vec4 v = tile[t.y + tap / 3][t.x + tap % 3][i];
{sums}
        }}
    ivec2 at = ivec2(gl_GlobalInvocationID.xy);
{_store_picture(u, outputs) if last else _store_planes(outputs)}
}}"""


def _store_planes(outputs: int) -> str:
    columns, rows = _grid(outputs)
    stores = "\n".join(
        f"    imageStore(out_image, to + ivec2({o % columns}, {o // columns}), max(s{o}, vec4(0.0)));"
        for o in range(outputs)
    )
    return f"""\
    ivec2 to = at * ivec2({columns}, {rows});
{stores}"""


def _store_picture(u: int, outputs: int) -> str:
    side = 2 * u
    return f"""\
    vec4 sums[{outputs}] = vec4[{outputs}]({", ".join(f"s{o}" for o in range(outputs))});
    for (int n = 0; n < {side * side}; n++) {{
        ivec2 to = at * {side} + ivec2(n % {side}, n / {side});
        imageStore(out_image, to, vec4(sums[n / 4][n % 4] + luma(to / 2), 0.0, 0.0, 1.0));
    }}"""


# -- fragment passes ---------------------------------------------------------------------------------------


def _fragment_passes(network: Network) -> Iterator[str]:
    """Planes have a border of one texel, which holds the zeros that the network pads with."""
    prefix, u = _prefix(network), network.config.unshuffle
    size = [f"{_half(u, side)} 2 +" for side in "wh"]
    floats = "//!COMPONENTS 4"
    planes = [f"{prefix}S"]
    yield _directives(network, "start", ["LUMA"], planes[0], *size, floats)
    yield f"""\
{_luma_function()}
vec4 hook() {{
    ivec2 size = (ivec2(LUMA_size) + 1) / 2 * {2 // u};
    ivec2 p = ivec2(LUMA_pos * vec2(size + 2)) - 1;
    bool inside = all(greaterThanEqual(p, ivec2(0))) && all(lessThan(p, size));
    return inside ? {_unshuffled(u)} : vec4(0.0);
}}"""
    count = len(network.layers)
    for i, layer in enumerate(network.layers):
        kernel, bias = padded(layer)
        made = [f"{prefix}{i}_{o}" for o in range(len(bias) // 4)]
        for o, name in enumerate(made):
            part = kernel[4 * o : 4 * o + 4], bias[4 * o : 4 * o + 4]
            step = f"layer {i + 1} of {count}, {o + 1} of {len(made)}"
            yield _directives(network, step, planes, name, *size, floats)
            yield _fragment_body(planes, part, relu=i < count - 1)
        planes = made
    yield _directives(
        network, "picture", ["LUMA", *planes], None, "LUMA.w 2 *", "LUMA.h 2 *", "//!COMPONENTS 1"
    )
    yield _shuffle_body(u, planes)


def _fragment_body(planes: list[str], layer: Layer, *, relu: bool) -> str:
    kernel, bias = layer
    terms = []
    for i, plane in enumerate(planes):
        for tap in range(9):
            y, x = divmod(tap, 3)
            matrix = kernel[:, 4 * i : 4 * i + 4, y, x].T.ravel()  # mat4 is filled column by column
            terms.append(
                f"    v += mat4({_numbers(matrix)}) * "
                f"texelFetch({plane}_raw, p + ivec2({x - 1}, {y - 1}), 0) * {plane}_mul;"
            )
    first = planes[0]
    lines = "\n".join(terms)
    return f"""\
vec4 hook() {{
    ivec2 size = ivec2({first}_size);
    ivec2 p = ivec2({first}_pos * {first}_size);
    if (any(lessThan(p, ivec2(1))) || any(greaterThan(p, size - 2))) return vec4(0.0);
    vec4 v = vec4({_numbers(bias)});
{lines}
    return {"max(v, vec4(0.0))" if relu else "v"};
}}"""


def _shuffle_body(u: int, planes: list[str]) -> str:
    side = 2 * u
    picks = [f"texelFetch({plane}_raw, q, 0) * {plane}_mul" for plane in planes]
    value = picks[-1]
    for row in range(len(picks) - 2, -1, -1):
        value = f"n / 4 == {row} ? {picks[row]}\n        : {value}"
    return f"""\
{_luma_function()}
vec4 hook() {{
    ivec2 p = ivec2(LUMA_pos * LUMA_size * 2.0);
    ivec2 q = p / {side} + 1;
    int n = p.y % {side} * {side} + p.x % {side};
    vec4 v = {value};
    return vec4(v[n % 4] + luma(p / 2), 0.0, 0.0, 1.0);
}}"""


def _luma_function() -> str:
    """Sides that are odd are continued by one line, as every other runtime does."""
    return """\
float luma(ivec2 p) {
    return (texelFetch(LUMA_raw, clamp(p, ivec2(0), ivec2(LUMA_size) - 1), 0) * LUMA_mul).x;
}"""


def _unshuffled(u: int) -> str:
    """GLSL: the first layer's input at the position `p`."""
    if u == 1:
        return "vec4(luma(p), 0.0, 0.0, 0.0)"
    return "vec4(luma(2 * p), luma(2 * p + ivec2(1, 0)), luma(2 * p + ivec2(0, 1)), luma(2 * p + 1))"


def _numbers(values: Floats) -> str:
    """Decimals with a point, without exponents; six digits are finer than the planes' half floats."""
    return ",".join(np.format_float_positional(v, 6, fractional=False, trim="0") for v in values)
