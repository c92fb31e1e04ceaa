/**
 * Doubles a playing video with a small network, on the GPU through WebGL 2. No library, no server.
 *
 *   const upscaler = upscale.attach(video, canvas);   // a <video> and a <canvas>; throws where it cannot run
 *   upscaler.split = 0;        // 0 … 1: share of the width, from the left, that stays bilinear
 *   upscaler.strength = 0.5;   // 0 … 1: from the fidelity model's weights to the GAN model's
 *   upscaler.detach();         // stop, and free the GPU's memory
 *
 * The canvas becomes twice as large as the video and is drawn whenever the video shows a new frame. The video
 * must stay in the page (under the canvas, say): browsers decode hidden ones more slowly. A video of
 * another origin needs CORS headers and crossorigin="anonymous"; protected (DRM) video gives no pixels.
 */
const upscale = (() => {
  "use strict";

  const KR_KB = {  // of the matrices that VideoColorSpace names
    bt709: [0.2126, 0.0722], smpte170m: [0.299, 0.114], bt470bg: [0.299, 0.114], "bt2020-ncl": [0.2627, 0.0593],
  };

  const VERTEX = `#version 300 es
    void main() { gl_Position = vec4(ivec2(gl_VertexID & 1, gl_VertexID >> 1) * 4 - 1, 0, 1); }`;

  // Luma as the network learned it: code values divided by 255, and whole ones, as in the file.
  const LUMA = `#version 300 es
    precision highp float; precision highp int; precision highp sampler2D; precision highp sampler2DArray;
    uniform sampler2D video; uniform vec3 weights; uniform vec2 range;
    float exact(vec3 rgb) { return range.x + range.y * dot(weights, rgb); }
    float luma(ivec2 p) {
      ivec2 end = textureSize(video, 0) - 1;
      return floor(exact(texelFetch(video, min(p, end), 0).rgb) + 0.5) / 255.0;
    }`;

  const START = `${LUMA}
    uniform int unshuffle; out vec4 value;
    void main() {
      ivec2 p = (ivec2(gl_FragCoord.xy) - 1) * unshuffle;
      value = unshuffle == 1 ? vec4(luma(p), 0, 0, 0)
        : vec4(luma(p), luma(p + ivec2(1, 0)), luma(p + ivec2(0, 1)), luma(p + 1));
    }`;

  // One 3x3 convolution to `outputs` planes of four channels; planes have a border of one texel of zeros.
  const convolution = (outputs, size) => {
    const all = [...Array(outputs).keys()];
    return `#version 300 es
    precision highp float; precision highp int; precision highp sampler2DArray;
    uniform sampler2DArray source; uniform int inputs; uniform float least;
    layout(std140) uniform Weights { vec4 w[${size}]; };
    ${all.map((o) => `layout(location = ${o}) out vec4 value${o};`).join("\n")}
    void main() {
      ivec2 p = ivec2(gl_FragCoord.xy);
      vec4 ${all.map((o) => `s${o} = w[${o}]`).join(", ")};
      int k = ${outputs};
      for (int tap = 0; tap < 9; tap++)
        for (int i = 0; i < inputs; i++, k += ${4 * outputs}) {
          vec4 v = texelFetch(source, ivec3(p + ivec2(tap % 3, tap / 3) - 1, i), 0);
          ${all.map((o) => `s${o} += mat4(w[k + ${4 * o}], w[k + ${4 * o + 1}], w[k + ${4 * o + 2}], w[k + ${4 * o + 3}]) * v;`).join("\n")}
        }
      ${all.map((o) => `value${o} = max(s${o}, vec4(least));`).join("\n")}
    }`;
  };

  // Bilinear RGB, and what the network's luma adds to it: a wrong matrix never tints. Canvas rows run upwards.
  const PICTURE = `${LUMA}
    uniform sampler2DArray planes; uniform int side; uniform float split; uniform bool codes; out vec4 colour;
    void main() {
      ivec2 size = textureSize(video, 0) * 2, p = ivec2(gl_FragCoord.xy);
      if (!codes) p.y = size.y - 1 - p.y;
      vec3 rgb = texture(video, (vec2(p) + 0.5) / vec2(size)).rgb;
      ivec2 cell = p % side;
      int n = cell.y * side + cell.x;
      float network = luma(p / 2) + texelFetch(planes, ivec3(p / side + 1, n / 4), 0)[n % 4];
      if (float(p.x) >= split * float(size.x))
        rgb += (clamp(network, 0.0, 1.0) * 255.0 - exact(rgb)) / range.y;
      colour = codes ? vec4(network) : vec4(rgb, 1);
    }`;

  const floats = (base64) =>
    new Float32Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);

  class Upscaler {
    #gl; #model; #ends; #blend; #passes = []; #programs = {}; #textures = []; #size = [0, 0]; #video; #request;
    #strength = 1; #split = 0; #matrix = null; #fullRange = false; #frames = 0; #onFrame; #onError; #attached = true;

    /** Use `upscale.attach`. */
    constructor(video, canvas, { model, strength, split = 0, onFrame = () => {}, onError = console.error }) {
      const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, powerPreference: "high-performance" });
      if (!gl) throw new Error("it has no WebGL 2");
      if (!gl.getExtension("EXT_color_buffer_float") && !gl.getExtension("EXT_color_buffer_half_float"))
        throw new Error("its WebGL 2 cannot draw into textures of floats");
      this.canvas = canvas;
      this.#gl = gl; this.#video = video; this.#model = model; this.#onFrame = onFrame; this.#onError = onError;
      this.#ends = model.ends.map(floats);
      this.#strength = strength ?? model.strength; this.#split = split;
      canvas.addEventListener("webglcontextlost", this.#lost);
      canvas.addEventListener("webglcontextrestored", this.#restored);
      video.addEventListener("loadeddata", this.#loaded);
      this.#build();
      if (video.readyState >= 2) this.#loaded();
      this.#wait();
    }

    /** 0 … 1: share of the width, from the left, that is bilinear instead. */
    get split() { return this.#split; }
    set split(value) { this.#split = Math.min(1, Math.max(0, value)); this.draw(); }

    /** 0 … 1: the GAN model's share in the weights; has no effect in a model without a fidelity model. */
    get strength() { return this.#strength; }
    set strength(value) {
      this.#strength = Math.min(1, Math.max(0, value));
      this.#weigh();
      if (this.#upload()) this.#run();
      this.draw();
    }

    /** Frames that were enlarged so far. */
    get frames() { return this.#frames; }

    /** The matrix that RGB is turned back into luma with, one of `KR_KB`: the video's, or a guess by its height. */
    get matrix() { return this.#matrix ?? (this.#video.videoHeight >= 720 ? "bt709" : "smpte170m"); }

    /** Enlarge the frame that the video shows now; false where there is none yet. */
    render() {
      if (!this.#upload()) return false;
      this.#run();
      this.draw();
      return true;
    }

    /** Draw the canvas again, from what was computed last. */
    draw() {
      if (!this.#size[0] || this.#gl.isContextLost()) return;
      this.#gl.bindFramebuffer(this.#gl.FRAMEBUFFER, null);
      this.#drawPicture(false);
    }

    /** The network's luma of the last frame: code values, row by row from the top, 2·width × 2·height. */
    luma() {
      const gl = this.#gl, [width, height] = this.#size.map((n) => 2 * n);
      const buffer = gl.createRenderbuffer(), target = gl.createFramebuffer();
      gl.bindRenderbuffer(gl.RENDERBUFFER, buffer);
      gl.renderbufferStorage(gl.RENDERBUFFER, gl.RGBA8, width, height);
      gl.bindFramebuffer(gl.FRAMEBUFFER, target);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, buffer);
      this.#drawPicture(true);
      const pixels = new Uint8Array(4 * width * height);
      gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
      gl.deleteFramebuffer(target); gl.deleteRenderbuffer(buffer);
      return pixels.filter((_, i) => i % 4 === 0);
    }

    /** Stop drawing and free what lies on the GPU. The canvas keeps its last picture. */
    detach() {
      this.#attached = false;
      if (this.#request !== undefined) (this.#video.cancelVideoFrameCallback ?? cancelAnimationFrame).call(
        this.#video.cancelVideoFrameCallback ? this.#video : window, this.#request);
      this.canvas.removeEventListener("webglcontextlost", this.#lost);
      this.canvas.removeEventListener("webglcontextrestored", this.#restored);
      this.#video.removeEventListener("loadeddata", this.#loaded);
      this.#free();
      for (const program of Object.values(this.#programs)) this.#gl.deleteProgram(program);
      for (const pass of this.#passes) this.#gl.deleteBuffer(pass.buffer);
    }

    #loaded = () => {
      this.#matrix = null; this.#fullRange = false;
      try { this.render(); } catch (error) { this.#onError(error); }
    };

    #lost = (event) => event.preventDefault();

    #restored = () => {
      this.#programs = {}; this.#passes = []; this.#textures = []; this.#size = [0, 0];
      this.#build();
      this.render();
    };

    #wait() {
      const next = () => {
        if (!this.#attached) return;
        try {
          if (this.render()) { this.#frames++; this.#onFrame(this); }
        } catch (error) { this.#onError(error); }
        this.#wait();
      };
      // Without frame callbacks (Firefox before 132) every refresh of the screen looks for a new frame.
      this.#request = this.#video.requestVideoFrameCallback
        ? this.#video.requestVideoFrameCallback(next) : requestAnimationFrame(next);
    }

    /** Programs, and for each layer the passes that fit the GPU's limits on targets and uniforms. */
    #build() {
      const gl = this.#gl, { layers, unshuffle } = this.#model;
      const targets = Math.min(gl.getParameter(gl.MAX_DRAW_BUFFERS), gl.getParameter(gl.MAX_COLOR_ATTACHMENTS));
      const vectors = gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE) / 16;
      this.#program("start", START);
      this.#program("picture", PICTURE);
      let begin = 0;
      layers.forEach(([inputs, outputs], layer) => {
        const most = Math.max(1, Math.min(targets, outputs, Math.floor(vectors / (36 * inputs + 1))));
        for (let first = 0; first < outputs; first += most) {
          const count = Math.min(most, outputs - first), size = count * (36 * inputs + 1);
          const name = `${count} of ${size}`;
          if (!this.#programs[name]) {
            const program = this.#program(name, convolution(count, size));
            gl.uniformBlockBinding(program, gl.getUniformBlockIndex(program, "Weights"), 0);
          }
          this.#passes.push({ name, layer, first, count, size, begin, inputs, outputs, buffer: gl.createBuffer() });
        }
        begin += 4 * outputs * (36 * inputs + 1);
      });
      this.side = 2 * unshuffle;
      this.#weigh();
    }

    #program(name, fragment) {
      const gl = this.#gl, program = gl.createProgram();
      for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, text);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
        gl.deleteShader(shader);
      }
      gl.linkProgram(program);
      if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost())
        throw new Error(`its graphics driver refuses a shader (${gl.getProgramInfoLog(program)})`);
      program.at = new Proxy({}, {
        get: (known, uniform) => (known[uniform] ??= gl.getUniformLocation(program, uniform)),
      });
      return (this.#programs[name] = program);
    }

    /** Blend the two ends and hand every pass its share: its biases, then its part of each tap and input. */
    #weigh() {
      const gl = this.#gl, [own, other] = this.#ends, share = other ? this.#strength : 1;
      const all = other ? own.map((value, i) => other[i] + share * (value - other[i])) : own;
      for (const { begin, inputs, outputs, first, count, size, buffer } of this.#passes) {
        const part = new Float32Array(4 * size), biases = begin + 4 * 36 * inputs * outputs;
        part.set(all.subarray(biases + 4 * first, biases + 4 * (first + count)));
        for (let k = 0; k < 9 * inputs; k++) {
          const from = begin + 16 * (k * outputs + first);
          part.set(all.subarray(from, from + 16 * count), 4 * count + 16 * count * k);
        }
        gl.bindBuffer(gl.UNIFORM_BUFFER, buffer);
        gl.bufferData(gl.UNIFORM_BUFFER, part, gl.STATIC_DRAW);
      }
    }

    #upload() {
      const gl = this.#gl, video = this.#video, { videoWidth: width, videoHeight: height } = video;
      if (!width || video.readyState < 2 || gl.isContextLost()) return false;
      if (width !== this.#size[0] || height !== this.#size[1]) this.#resize(width, height);
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, this.picture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, video);
      if (this.#matrix === null && window.VideoFrame) {
        try {
          const frame = new VideoFrame(video), { matrix, fullRange } = frame.colorSpace;
          frame.close();
          if (matrix in KR_KB) this.#matrix = matrix;
          this.#fullRange = matrix in KR_KB && fullRange === true;
        } catch { /* no frame yet, or protected: the guess stays */ }
      }
      return true;
    }

    #resize(width, height) {
      const gl = this.#gl, { layers, unshuffle } = this.#model;
      const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
      if (2 * Math.max(width, height) > most)
        throw new Error(`the video is ${width}x${height} and the GPU draws ${most} pixels at most`);
      this.#free();
      this.#size = [width, height];
      this.canvas.width = 2 * width; this.canvas.height = 2 * height;
      this.picture = this.#texture(gl.TEXTURE_2D, gl.LINEAR);
      // New textures hold zeros; their border of one texel is never drawn to and pads as the network does.
      const cells = [width, height].map((n) => (Math.ceil(n / 2) * 2) / unshuffle);
      const planes = (format, count) => {
        const texture = this.#texture(gl.TEXTURE_2D_ARRAY, gl.NEAREST);
        gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, format, cells[0] + 2, cells[1] + 2, count);
        return texture;
      };
      const most_ = Math.max(...layers.map(([, outputs]) => outputs));
      this.start = planes(gl.RGBA8, 1);  // code values, exactly
      this.planes = [planes(gl.RGBA16F, most_), planes(gl.RGBA16F, most_)];
      this.cells = cells;
      this.startTarget = this.#target(this.start, 0, 1);
      for (const pass of this.#passes) pass.target = this.#target(this.planes[pass.layer % 2], pass.first, pass.count);
    }

    #texture(kind, filter) {
      const gl = this.#gl, texture = gl.createTexture();
      gl.bindTexture(kind, texture);
      for (const [name, value] of [["MIN_FILTER", filter], ["MAG_FILTER", filter],
        ["WRAP_S", gl.CLAMP_TO_EDGE], ["WRAP_T", gl.CLAMP_TO_EDGE]])
        gl.texParameteri(kind, gl[`TEXTURE_${name}`], value);
      this.#textures.push(texture);
      return texture;
    }

    #target(texture, first, count) {
      const gl = this.#gl, target = gl.createFramebuffer();
      const places = [...Array(count).keys()].map((n) => gl.COLOR_ATTACHMENT0 + n);
      gl.bindFramebuffer(gl.FRAMEBUFFER, target);
      places.forEach((place, n) => gl.framebufferTextureLayer(gl.FRAMEBUFFER, place, texture, 0, first + n));
      gl.drawBuffers(places);
      if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE)
        throw new Error("its WebGL 2 cannot draw into textures of floats");
      return target;
    }

    #free() {
      const gl = this.#gl;
      for (const texture of this.#textures) gl.deleteTexture(texture);
      gl.deleteFramebuffer(this.startTarget ?? null);
      for (const pass of this.#passes) gl.deleteFramebuffer(pass.target ?? null);
      this.#textures = []; this.#size = [0, 0];
    }

    #use(name, source) {
      const gl = this.#gl, program = this.#programs[name], [kr, kb] = KR_KB[this.matrix];
      gl.useProgram(program);
      gl.uniform1i(program.at.video, 0);
      gl.uniform3f(program.at.weights, kr, 1 - kr - kb, kb);
      gl.uniform2f(program.at.range, ...(this.#fullRange ? [0, 255] : [16, 219]));
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, this.picture);
      gl.activeTexture(gl.TEXTURE1);
      gl.bindTexture(gl.TEXTURE_2D_ARRAY, source);
      return program.at;
    }

    /** All layers, from the video's texture to the last planes. */
    #run() {
      const gl = this.#gl, last = this.#model.layers.length - 1;
      gl.viewport(1, 1, ...this.cells);
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.startTarget);
      let at = this.#use("start", null);
      gl.uniform1i(at.unshuffle, this.#model.unshuffle);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      for (const { name, layer, inputs, buffer, target } of this.#passes) {
        at = this.#use(name, layer ? this.planes[(layer - 1) % 2] : this.start);
        gl.bindFramebuffer(gl.FRAMEBUFFER, target);
        gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, buffer);
        gl.uniform1i(at.source, 1);
        gl.uniform1i(at.inputs, inputs);
        gl.uniform1f(at.least, layer < last ? 0 : -65504);
        gl.drawArrays(gl.TRIANGLES, 0, 3);
      }
    }

    #drawPicture(codes) {
      const gl = this.#gl, last = this.#model.layers.length - 1;
      const at = this.#use("picture", this.planes[last % 2]);
      gl.viewport(0, 0, ...this.#size.map((n) => 2 * n));
      gl.uniform1i(at.planes, 1);
      gl.uniform1i(at.side, this.side);
      gl.uniform1f(at.split, this.#split);
      gl.uniform1i(at.codes, codes ? 1 : 0);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
  }

  const model = /*MODEL*/ null;

  return {
    /** {name, unshuffle, layers, ends, strength, sha256, licence} of the network in this file. */
    model,
    /**
     * Enlarge `video` on `canvas` from now on.
     *
     * options: strength (0 … 1), split (0 … 1), onFrame(upscaler) after each frame, onError(error), model.
     * Throws an Error that says what the browser lacks.
     */
    attach: (video, canvas, options = {}) => new Upscaler(video, canvas, { model, ...options }),
  };
})();
