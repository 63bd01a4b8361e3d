// Two painters of the same scene. A graphics card takes the points by WebGL. Where WebGL is only
// imitated in software, plain stamping into an image is several times faster than its imitation.
//
// A scene: { xy, to, mix, codes, sizes, states, count, scale: [ax, ay], shift: [bx, by] (pixels
// = unit · scale + shift), radius (pixels), palette: Uint32Array(512) of RGBA, the dimmed colours
// after the full ones, alpha: [full, dimmed], ink, paper }. States: 0 dimmed, 1 plain,
// 2 in front, 3 in front with a ring.

const FRONT = 2;
const RING = 3;
const RING_WIDTH = 1.6; // CSS pixels

const VERTEX = `#version 300 es
in vec2 xy; in vec2 to; in float code; in float size; in float state;
uniform vec2 scale, shift, screen; uniform float mixed, radius, front, ring; uniform vec2 alpha;
uniform highp sampler2D palette;
out vec4 color; out float inner; out float outer;
void main() {
  if ((state > 1.5) != (front > 0.5)) { gl_Position = vec4(2.0, 2.0, 2.0, 1.0); gl_PointSize = 1.0; return; }
  vec2 place = mix(xy, to, mixed) * scale + shift;
  gl_Position = vec4(2.0 * place.x / screen.x - 1.0, 1.0 - 2.0 * place.y / screen.y, 0.0, 1.0);
  bool dimmed = state < 0.5;
  inner = radius * size * (front > 0.5 ? 1.35 : 1.0);
  outer = inner + (state > 2.5 ? ring : 0.0);
  gl_PointSize = 2.0 * outer + 2.0;
  color = texelFetch(palette, ivec2(int(code + 0.5), dimmed ? 1 : 0), 0);
  color.a = front > 0.5 ? 1.0 : dimmed ? alpha.y : alpha.x;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 color; in float inner; in float outer; uniform vec4 ink; out vec4 pixel;
void main() {
  float far = length(gl_PointCoord - 0.5) * (2.0 * outer + 2.0);
  float cover = clamp(outer + 0.5 - far, 0.0, 1.0);
  if (cover <= 0.0) discard;
  vec4 shade = far > inner && outer > inner ? ink : color;
  pixel = vec4(shade.rgb, shade.a * cover);
}`;

class GlPainter {
  static open(canvas, evenSoftware) {
    const gl = canvas.getContext("webgl2", { alpha: true, premultipliedAlpha: false, antialias: false });
    if (!gl) return null;
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    const name = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
    if (!evenSoftware && /swiftshader|llvmpipe|software|softpipe/i.test(name)) return null;
    return new GlPainter(canvas, gl);
  }

  constructor(canvas, gl) {
    [this.canvas, this.gl, this.name] = [canvas, gl, "webgl"];
    this.buffers = new Map(); // name -> { buffer, array } as last uploaded
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.program = program;
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  attribute(name, array, width, type, normalized, otherwise) {
    const { gl } = this;
    const place = gl.getAttribLocation(this.program, name);
    if (place < 0) return;
    if (!array) {
      gl.disableVertexAttribArray(place);
      gl.vertexAttrib4f(place, otherwise, 0, 0, 0);
      return;
    }
    let kept = this.buffers.get(name);
    if (!kept) this.buffers.set(name, (kept = { buffer: gl.createBuffer(), array: null }));
    gl.bindBuffer(gl.ARRAY_BUFFER, kept.buffer);
    if (kept.array !== array) {
      gl.bufferData(gl.ARRAY_BUFFER, array, gl.STATIC_DRAW);
      kept.array = array;
    }
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, width, type, normalized, 0, 0);
  }

  uniform(name, ...values) {
    this.gl[`uniform${values.length}f`](this.gl.getUniformLocation(this.program, name), ...values);
  }

  paint(scene, pixels) {
    const { gl, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    const share = (word) => [0, 8, 16].map((shift) => ((word >>> shift) & 255) / 255);
    gl.clearColor(...share(scene.paper), 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!scene.count) return;
    this.attribute("xy", scene.xy, 2, gl.UNSIGNED_SHORT, false);
    this.attribute("to", scene.to ?? scene.xy, 2, gl.UNSIGNED_SHORT, false);
    this.attribute("code", scene.codes, 1, gl.UNSIGNED_BYTE, false, 0);
    this.attribute("size", scene.sizes, 1, gl.UNSIGNED_BYTE, false, 64);
    this.attribute("state", scene.states, 1, gl.UNSIGNED_BYTE, false, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 2, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(scene.palette.buffer));
    this.uniform("scale", ...scene.scale);
    this.uniform("shift", ...scene.shift);
    this.uniform("screen", canvas.width, canvas.height);
    this.uniform("mixed", scene.to ? scene.mix : 0);
    this.uniform("radius", scene.radius / 64);
    this.uniform("ring", RING_WIDTH * pixels);
    this.uniform("alpha", ...scene.alpha);
    this.uniform("ink", ...share(scene.ink), 1);
    for (const front of scene.states ? [0, 1] : [0]) {
      this.uniform("front", front);
      gl.drawArrays(gl.POINTS, 0, scene.count);
    }
  }

  close() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

class StampPainter {
  constructor(canvas) {
    [this.canvas, this.context, this.name] = [canvas, canvas.getContext("2d"), "stamps"];
    this.stamps = new Map();
  }

  // A disc's pixels around its middle: offsets and how far each is covered, of 256.
  stamp(radius) {
    const key = Math.max(2, Math.round(radius * 4));
    let found = this.stamps.get(key);
    if (!found) {
      const r = key / 4;
      const parts = { dx: [], dy: [], cover: [] };
      const reach = Math.ceil(r);
      for (let dy = -reach; dy <= reach; dy++) {
        for (let dx = -reach; dx <= reach; dx++) {
          const cover = Math.round(256 * Math.min(1, Math.max(0, r + 0.5 - Math.hypot(dx, dy))));
          if (cover > 8) for (const [name, value] of Object.entries({ dx, dy, cover })) parts[name].push(value);
        }
      }
      found = { reach, dx: Int32Array.from(parts.dx), dy: Int32Array.from(parts.dy), cover: Int32Array.from(parts.cover) };
      this.stamps.set(key, found);
    }
    return found;
  }

  paint(scene, pixels) {
    const { width, height } = this.canvas;
    if (!width || !height) return;
    if (this.image?.width !== width || this.image.height !== height) {
      this.image = this.context.createImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
    }
    this.words.fill(scene.paper);
    const { states, count } = scene;
    const front = [];
    for (let i = 0; i < count; i++) {
      const state = states ? states[i] : 1;
      if (state >= FRONT) front.push(i);
      else this.dot(scene, i, state === 0, scene.radius, scene.alpha[state === 0 ? 1 : 0]);
    }
    for (const i of front) {
      const radius = 1.35 * scene.radius;
      if (states[i] === RING) this.dot(scene, i, false, radius, 1, RING_WIDTH * pixels, scene.ink);
      this.dot(scene, i, false, radius, 1);
    }
    this.context.putImageData(this.image, 0, 0);
  }

  dot(scene, i, dimmed, radius, alpha, wider = 0, color = scene.palette[(dimmed ? 256 : 0) + (scene.codes ? scene.codes[i] : 0)]) {
    const { xy, to, mix, scale, shift, sizes } = scene;
    let x = xy[2 * i];
    let y = xy[2 * i + 1];
    if (to) {
      x += (to[2 * i] - x) * mix;
      y += (to[2 * i + 1] - y) * mix;
    }
    const left = Math.round(x * scale[0] + shift[0]);
    const top = Math.round(y * scale[1] + shift[1]);
    const { width, height } = this.canvas;
    const { dx, dy, cover, reach } = this.stamp(radius * (sizes ? sizes[i] / 64 : 1) + wider);
    if (left < -reach || top < -reach || left >= width + reach || top >= height + reach) return;
    const inside = left >= reach && top >= reach && left < width - reach && top < height - reach;
    const { words } = this;
    const redBlue = color & 0xff00ff;
    const green = color & 0xff00;
    for (let k = 0; k < dx.length; k++) {
      const px = left + dx[k];
      const py = top + dy[k];
      if (!inside && (px < 0 || py < 0 || px >= width || py >= height)) continue;
      const place = py * width + px;
      const under = words[place];
      const share = (cover[k] * alpha) | 0;
      const rest = 256 - share;
      words[place] =
        (0xff000000 |
          (((Math.imul(under & 0xff00ff, rest) + Math.imul(redBlue, share)) >>> 8) & 0xff00ff) |
          (((Math.imul(under & 0xff00, rest) + Math.imul(green, share)) >>> 8) & 0xff00)) >>> 0;
    }
  }

  close() {}
}

// A canvas that gave a WebGL context gives no other, so the question is put to a spare one.
function openPainter(canvas, wanted) {
  if (wanted !== "stamps") {
    const spare = GlPainter.open(document.createElement("canvas"), wanted === "webgl");
    spare?.close();
    if (spare) return GlPainter.open(canvas, true);
  }
  return new StampPainter(canvas);
}
