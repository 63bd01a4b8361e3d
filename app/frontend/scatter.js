// A map of points: move, zoom, box, lasso, hover. The server gets geometry only, in the map's own
// units, and answers which points are inside; the browser never sends points.

const SVG = "http://www.w3.org/2000/svg";
const ICON = {
  move: "M12 2l3 3h-2v6h6V9l3 3-3 3v-2h-6v6h2l-3 3-3-3h2v-6H5v2l-3-3 3-3v2h6V5H9z",
  box: "M3 3h4v2H5v2H3zm14 0h4v4h-2V5h-2zM3 17h2v2h2v2H3zm16 0h2v4h-4v-2h2zM9 3h6v2H9zm0 16h6v2H9zM3 9h2v6H3zm16 0h2v6h-2z",
  lasso: "M12 3c5 0 9 2.9 9 6.5S17 16 12 16c-.9 0-1.800-.1-2.600-.3.3.5.5 1.100.5 1.700 0 2-1.700 3.600-3.800 3.600l-.1-2c1 0 1.900-.7 1.900-1.600 0-.7-.5-1.300-1.300-1.500C4.400 14.800 3 12.300 3 9.500 3 5.900 7 3 12 3zm0 2C8.100 5 5 7 5 9.500S8.100 14 12 14s7-2 7-4.500S15.900 5 12 5z",
  closer: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  farther: "M5 11h14v2H5z",
  fit: "M4 4h6v2H6v4H4zm10 0h6v6h-2V6h-4zM4 14h2v4h4v2H4zm14 0h2v6h-6v-2h4z",
  clear: "M6.400 5L12 10.600 17.600 5 19 6.400 13.400 12 19 17.600 17.600 19 12 13.400 6.400 19 5 17.600 10.600 12 5 6.400z",
  picture: "M5 20h14v-2H5zM19 9h-4V3H9v6H5l7 7z",
};
const TOOLS = { move: "Move the map", box: "Select a box", lasso: "Select with a lasso" };
const MOST_ZOOM = 400; // times the whole map
const HOVER_PX = 14;
const MOST_ARROWS = 400; // of a selection; more would hide the points
const LASSO_PX = 1.5; // how far a lasso's outline may be simplified, in pixels
const REST_MS = 280; // of stillness before a finer window is asked for
const MOST_RINGS = 4000; // more matches than this are drawn bigger, without a ring

const cameras = new Map(); // id and points -> camera, so that a map is found as it was left

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: labels are user text
  return node;
}

function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

// A CSS colour as the 32 bits of an image's pixel, little end first.
function rgba(css) {
  probe.clearRect(0, 0, 1, 1);
  probe.fillStyle = css;
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}

function blend(one, other, share) {
  const part = (shift) => Math.round(((one >>> shift) & 255) * (1 - share) + ((other >>> shift) & 255) * share);
  return (0xff000000 | (part(16) << 16) | (part(8) << 8) | part(0)) >>> 0;
}

const css = (word) => `rgb(${word & 255} ${(word >>> 8) & 255} ${(word >>> 16) & 255})`;
const short = (value) => Number(value.toPrecision(6));
const number = (value) => value.toLocaleString("en-US");

// Ramer–Douglas–Peucker: the outline with fewer corners, nowhere farther off than `most`.
function simplified(points, most) {
  if (points.length < 4) return points;
  const [a, b] = [points[0], points[points.length - 1]];
  let [far, at] = [0, 0];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]);
  points.forEach((p, i) => {
    const off = length
      ? Math.abs((b[0] - a[0]) * (a[1] - p[1]) - (a[0] - p[0]) * (b[1] - a[1])) / length
      : Math.hypot(p[0] - a[0], p[1] - a[1]);
    if (off > far) [far, at] = [off, i];
  });
  if (far <= most) return [a, b];
  return [...simplified(points.slice(0, at + 1), most).slice(0, -1), ...simplified(points.slice(at), most)];
}

// One set of points on screen: the whole map, or the finer piece of a window.
class Layer {
  constructor(plan, pack, shade, ends, sizes) {
    this.plan = plan;
    this.bounds = pack.bounds;
    this.count = pack.xy.length / 2;
    this.stages = [pack.xy, ...ends.map((end) => end.xy)];
    this.rows = pack.rows;
    this.codes = shade?.codes ?? null;
    this.sizes = sizes?.sizes ?? null;
    this.grids = [];
    this.selected = bits(plan.selected, this.count);
    this.matched = bits(plan.matched, this.count);
    this.numMatched = this.matched ? this.matched.reduce((sum, bit) => sum + bit, 0) : 0;
  }

  states(emphasis) {
    if (emphasis === this.emphasis && this.known) return this.known.states;
    const { selected, matched, codes, count } = this;
    const states = selected || matched || emphasis !== null ? new Uint8Array(count) : null;
    const ring = this.numMatched <= MOST_RINGS ? RING : FRONT;
    for (let i = 0; states && i < count; i++) {
      if (emphasis !== null) states[i] = codes && codes[i] === emphasis ? FRONT : 0;
      else if (matched?.[i]) states[i] = !selected || selected[i] ? ring : 1;
      else if (selected?.[i]) states[i] = matched ? 1 : FRONT;
    }
    this.emphasis = emphasis;
    this.known = { states };
    return states;
  }

  grid(stage) {
    return (this.grids[stage] ??= new Grid(this.stages[stage]));
  }

  // Data units of a place in uint16 units, and back.
  data(u, v) {
    const [x0, x1, y0, y1] = this.bounds;
    return [x0 + (u * (x1 - x0)) / FULL, y0 + (v * (y1 - y0)) / FULL];
  }

  unit(x, y) {
    const [x0, x1, y0, y1] = this.bounds;
    return [((x - x0) * FULL) / (x1 - x0), ((y - y0) * FULL) / (y1 - y0)];
  }

  place(i, at) {
    const stage = Math.min(Math.floor(at), this.stages.length - 1);
    const from = this.stages[stage];
    const to = this.stages[Math.min(stage + 1, this.stages.length - 1)];
    const mix = at - stage;
    return this.data(from[2 * i] + (to[2 * i] - from[2 * i]) * mix, from[2 * i + 1] + (to[2 * i + 1] - from[2 * i + 1]) * mix);
  }
}

class Scatter {
  constructor(host) {
    this.host = host;
    this.tool = "move";
    this.emphasis = null;
    this.hovered = -1;
    this.pointers = new Map();
    this.build();
    this.listen();
  }

  // ---- the parts ----------------------------------------------------------------------

  build() {
    this.root = element("div", "root scatter");
    this.heading = element("div", "heading");
    this.body = element("div", "body");
    this.stage = element("div", "stage");
    this.canvas = element("canvas");
    this.over = element("canvas", "over");
    this.over.tabIndex = 0;
    this.over.setAttribute("role", "application");
    this.tools = element("div", "tools");
    this.tools.setAttribute("role", "toolbar");
    this.tools.setAttribute("aria-label", "Map tools");
    this.card = element("div", "card");
    this.card.hidden = true;
    this.note = element("div", "note");
    this.read = element("div", "visually-hidden");
    this.read.setAttribute("aria-live", "polite");
    this.menu = element("div", "menu");
    this.menu.hidden = true;
    for (const kind of ["PNG", "SVG"]) {
      const item = element("button", "item", `Save as ${kind}`);
      item.type = "button";
      item.addEventListener("click", () => ((this.menu.hidden = true), this.save(kind)));
      this.menu.append(item);
    }
    for (const [name, title] of Object.entries(TOOLS)) this.button(name, title, () => this.setTool(name));
    this.tools.append(element("span", "gap"));
    this.button("closer", "Zoom in", () => this.zoom(1.6));
    this.button("farther", "Zoom out", () => this.zoom(1 / 1.6));
    this.button("fit", "Show the whole map", () => this.fit());
    this.button("picture", "Save the picture", () => (this.menu.hidden = !this.menu.hidden));
    this.button("clear", "Clear the selection", () => this.send("cleared", true));
    this.stage.append(this.canvas, this.over, this.tools, this.menu, this.note, this.card, this.read);
    this.legend = element("div", "legend");
    this.morph = element("div", "morph");
    this.body.append(this.stage, this.legend);
    this.root.append(this.heading, this.body, this.morph);
    this.host.append(this.root);
    this.buildMorph();
    this.setTool("move");
  }

  button(name, title, act) {
    const node = element("button", `tool ${name}`);
    node.type = "button";
    node.title = title;
    node.setAttribute("aria-label", title);
    node.dataset.tool = name;
    node.append(icon(ICON[name]));
    node.addEventListener("click", act);
    this.tools.append(node);
  }

  buildMorph() {
    this.slider = element("input");
    this.slider.type = "range";
    this.slider.min = 0;
    this.slider.step = 0.01;
    this.slider.setAttribute("aria-label", "From one model's map to the next");
    this.slider.addEventListener("input", () => this.moveTo(Number(this.slider.value)));
    this.play = element("button", "play", "▶ Play");
    this.play.type = "button";
    this.play.addEventListener("click", () => this.run());
    this.stops = element("div", "stops");
    const track = element("div", "track");
    track.append(this.slider, this.stops);
    this.morph.append(this.play, track);
  }

  setTool(name) {
    this.tool = name;
    this.stage.dataset.tool = name;
    for (const node of this.tools.querySelectorAll(".tool")) {
      if (node.dataset.tool in TOOLS) node.setAttribute("aria-pressed", node.dataset.tool === name);
    }
  }

  // ---- what the server says -----------------------------------------------------------

  show(data) {
    const first = !this.data;
    this.data = data;
    this.root.dataset.scatter = data.id;
    this.root.dataset.ready = "false";
    this.stage.style.setProperty("--height", `${data.height}px`);
    this.root.classList.toggle("still", Boolean(data.still)); // no server answers
    this.heading.textContent = data.title;
    this.heading.hidden = !data.title;
    this.over.setAttribute("aria-label", data.label);
    this.drawLegend();
    const stages = data.stages.map((stage) => stage.name);
    this.morph.hidden = stages.length < 2;
    this.slider.max = Math.max(1, stages.length - 1);
    this.stops.replaceChildren(...stages.map((name) => element("span", "stop", name)));
    if (first) this.at = this.slider.value = data.at ?? 0;
    this.at = Math.min(this.at, Math.max(0, stages.length - 1));
    this.load(data);
  }

  async load(data) {
    try {
      const layers = await Promise.all([data.layer, data.detail].map((plan) => plan && this.layer(plan)));
      if (this.data !== data || this.closed) return; // overtaken by a newer view
      [this.whole, this.detail] = layers;
      this.labels = this.finer = undefined;
      if (data.labels) fetchPack(data.labels).then((pack) => data === this.data && ((this.labels = pack), this.describe()));
      if (data.detail?.labels) fetchPack(data.detail.labels).then((pack) => data === this.data && (this.finer = pack));
      this.place(data);
      this.root.dataset.points = this.whole.count;
      this.root.dataset.selected = data.selected;
      this.root.dataset.matched = data.matched;
      this.draw();
    } catch (error) {
      // The server drops what no page shows any more; a rerun serves it again.
      if (this.data === data && !this.closed && !this.lost) this.send("lost", true);
      this.lost = true;
    }
  }

  async layer(plan) {
    const later = [plan.shade, plan.sizes].map((url) => (url ? fetchPack(url) : null));
    const [pack, shade, sizes, ...ends] = await Promise.all([
      fetchPack(plan.points), ...later, ...plan.ends.map(fetchPack),
    ]);
    return new Layer(plan, pack, shade, ends, sizes);
  }

  // Where the map stands: as it was left, or all of it.
  place(data) {
    const name = `${data.id} ${data.view}`;
    this.lost = false;
    if (this.cameraName === name) return;
    this.cameraName = name;
    this.camera = cameras.get(name);
    if (!this.camera) this.fit(true);
  }

  send(event, value) {
    this.trigger?.(event, value);
  }

  // ---- the camera ---------------------------------------------------------------------

  get pixels() {
    return Math.min(this.painter?.name === "webgl" ? 3 : 2, window.devicePixelRatio || 1);
  }

  fitScale() {
    const [x0, x1, y0, y1] = this.data.extent;
    const room = this.stage.clientWidth > 600 ? 40 : 24;
    return Math.min(
      (this.stage.clientWidth - room) / Math.max(1e-9, x1 - x0),
      (this.stage.clientHeight - room - 30) / Math.max(1e-9, y1 - y0),
    );
  }

  fit(quietly) {
    const [x0, x1, y0, y1] = this.data.extent;
    this.camera = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, zoom: 1 };
    this.moved(quietly);
  }

  scale() {
    return Math.max(1e-9, this.fitScale()) * this.camera.zoom; // CSS pixels for a data unit
  }

  toScreen(x, y) {
    const k = this.scale();
    return [(x - this.camera.x) * k + this.stage.clientWidth / 2, (this.camera.y - y) * k + this.stage.clientHeight / 2];
  }

  toData(left, top) {
    const k = this.scale();
    return [(left - this.stage.clientWidth / 2) / k + this.camera.x, this.camera.y - (top - this.stage.clientHeight / 2) / k];
  }

  zoom(factor, left = this.stage.clientWidth / 2, top = this.stage.clientHeight / 2) {
    const [x, y] = this.toData(left, top);
    this.camera.zoom = Math.min(MOST_ZOOM, Math.max(0.5, this.camera.zoom * factor));
    const [nowX, nowY] = this.toData(left, top);
    this.camera.x += x - nowX;
    this.camera.y += y - nowY;
    this.moved();
  }

  pan(dx, dy) {
    this.camera.x -= dx / this.scale();
    this.camera.y += dy / this.scale();
    this.moved();
  }

  moved(quietly) {
    cameras.delete(this.cameraName);
    cameras.set(this.cameraName, this.camera);
    if (cameras.size > 50) cameras.delete(cameras.keys().next().value);
    this.draw();
    clearTimeout(this.resting);
    if (!quietly) this.resting = setTimeout(() => this.refine(), REST_MS);
  }

  window() {
    const [x0, y1] = this.toData(0, 0);
    const [x1, y0] = this.toData(this.stage.clientWidth, this.stage.clientHeight);
    return [x0, x1, y0, y1];
  }

  covers(window) {
    const inner = this.detail?.plan.window;
    return Boolean(inner) && window[0] >= inner[0] && window[1] <= inner[1] && window[2] >= inner[2] && window[3] <= inner[3];
  }

  // A sample is drawn: the window's own points are asked for when it is looked at closely.
  refine() {
    if (!this.data.refines || this.camera.zoom < 1.8) return;
    const [x0, x1, y0, y1] = this.window();
    if (this.covers([x0, x1, y0, y1])) {
      const inner = this.detail.plan.window;
      if (!this.detail.plan.sampled || (x1 - x0) * 2.2 > inner[1] - inner[0]) return;
    }
    const [w, h] = [0.25 * (x1 - x0), 0.25 * (y1 - y0)];
    this.send("window", [x0 - w, x1 + w, y0 - h, y1 + h].map(short));
  }

  // ---- drawing ------------------------------------------------------------------------

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = null;
      if (!this.closed && this.whole) this.paint();
    });
  }

  current() {
    return this.detail && this.covers(this.window()) ? this.detail : this.whole;
  }

  colors() {
    const style = getComputedStyle(this.root);
    const read = (name) => style.getPropertyValue(name).trim();
    const listed = (name) => read(name).split(/,(?![^(]*\))/).map((each) => each.trim()).filter(Boolean);
    const source = ["--st-background-color", "--st-text-color", "--st-chart-categorical-colors", "--st-chart-sequential-colors"].map(read).join();
    const wanted = `${source}|${JSON.stringify(this.data.legend.codes)}|${this.data.legend.kind}`;
    if (this.palette?.wanted === wanted) return this.palette;
    const [paper, ink] = [rgba(read("--st-background-color")), rgba(read("--st-text-color"))];
    const muted = blend(ink, paper, 0.62);
    const words = new Uint32Array(512).fill(muted);
    if (this.data.legend.kind === "category") {
      const base = listed("--st-chart-categorical-colors").map(rgba);
      for (const code of this.data.legend.codes) {
        const color = base[code % base.length];
        words[code] = code < base.length ? color : blend(color, code < 2 * base.length ? ink : paper, 0.42);
      }
    } else if (this.data.legend.kind === "continuous") {
      const ramp = listed("--st-chart-sequential-colors").map(rgba).slice(2);
      for (let code = 0; code < 255; code++) {
        const at = (code / 254) * (ramp.length - 1);
        const low = Math.min(ramp.length - 2, Math.floor(at));
        words[code] = blend(ramp[low], ramp[low + 1], at - low);
      }
    } else words[0] = rgba(read("--st-primary-color"));
    for (let code = 0; code < 256; code++) words[256 + code] = blend(words[code], blend(ink, paper, 0.8), 0.7);
    return (this.palette = { wanted, words, paper, ink, muted });
  }

  scene(layer) {
    const { words, paper, ink } = this.colors();
    const k = this.scale() * this.pixels;
    const [x0, x1, y0, y1] = layer.bounds;
    const stage = Math.min(Math.floor(this.at), layer.stages.length - 1);
    const to = layer.stages[stage + 1] ?? null;
    const [left, top] = this.toScreen(x0, y0);
    return {
      xy: layer.stages[stage], to: this.at > stage ? to : null, mix: this.at - stage,
      codes: layer.codes, sizes: layer.sizes, states: layer.states(this.emphasis), count: layer.count,
      scale: [((x1 - x0) / FULL) * k, (-(y1 - y0) / FULL) * k],
      shift: [left * this.pixels, top * this.pixels],
      radius: this.radius(layer) * this.pixels, palette: words,
      alpha: layer.count > 20000 ? [0.7, 0.22] : [0.85, 0.3], ink, paper,
    };
  }

  radius(layer) {
    const crowd = Math.min(5.2, Math.max(1.05, 4.4 * (900 / Math.max(1, layer.count)) ** 0.27));
    return crowd * Math.min(3, this.camera.zoom ** 0.22) * (this.stage.clientWidth < 600 ? 0.85 : 1);
  }

  size() {
    if (!this.painter) this.painter = openPainter(this.canvas, this.data.painter);
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    for (const canvas of [this.canvas, this.over]) {
      const [w, h] = [Math.round(width * this.pixels), Math.round(height * this.pixels)];
      if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    }
  }

  paint() {
    if (!this.stage.clientWidth) return;
    this.size();
    const began = performance.now();
    const layer = this.current();
    this.painter.paint(this.scene(layer), this.pixels);
    this.root.dataset.painter = this.painter.name;
    this.root.dataset.paintMs = (performance.now() - began).toFixed(1);
    this.drawOver(layer);
    this.drawNote(layer);
    this.root.dataset.layer = layer === this.detail ? "detail" : "whole";
    this.root.dataset.zoom = this.camera.zoom.toFixed(3);
    this.root.dataset.stage = this.at;
    if (this.root.dataset.ready !== "true") {
      this.root.dataset.ready = "true";
      this.root.dataset.view = this.data.view;
    }
  }

  drawNote(layer) {
    const { total } = this.data;
    const inside = layer.plan.inside ?? total;
    const sampled = layer.count < inside;
    this.note.textContent = sampled
      ? `${number(layer.count)} of ${number(inside)} points drawn${layer === this.whole && this.data.refines ? "; zoom in for the rest" : ""}`
      : `${number(layer.count)} points`;
  }

  drawOver(layer) {
    const context = this.over.getContext("2d");
    const { pixels } = this;
    context.setTransform(pixels, 0, 0, pixels, 0, 0);
    context.clearRect(0, 0, this.over.width, this.over.height);
    const { ink, paper } = this.colors();
    const [dark, light] = [css(ink), css(paper)];
    if (this.data.arrows) this.drawArrows(context, layer, dark, light);
    if (this.at === Math.round(this.at) && (!this.data.stages.length || this.at === (this.data.shapes_at ?? this.at))) {
      for (const shape of this.data.shapes) this.outline(context, this.corners(shape), dark, light, [5, 4]);
    }
    this.drawNames(context, dark, light);
    if (this.draft?.length > 1) this.outline(context, this.draft, dark, light, []);
    if (this.hovered >= 0 && this.hovered < layer.count) {
      const [x, y] = this.toScreen(...layer.place(this.hovered, this.at));
      const r = Math.max(6, this.radius(layer) * 1.6);
      for (const [width, color] of [[4, light], [2, dark]]) {
        context.beginPath();
        context.arc(x, y, r, 0, 7);
        [context.lineWidth, context.strokeStyle] = [width, color];
        context.stroke();
      }
    }
    if (this.cross) {
      const [x, y] = this.cross;
      context.beginPath();
      context.moveTo(x - 9, y);
      context.lineTo(x + 9, y);
      context.moveTo(x, y - 9);
      context.lineTo(x, y + 9);
      [context.lineWidth, context.strokeStyle] = [1.5, dark];
      context.stroke();
    }
  }

  corners({ kind, points }) {
    if (kind === "box") {
      const [x0, x1, y0, y1] = points;
      return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]].map((p) => this.toScreen(...p));
    }
    const pairs = [];
    for (let i = 0; i + 1 < points.length; i += 2) pairs.push(this.toScreen(points[i], points[i + 1]));
    return pairs;
  }

  outline(context, corners, dark, light, dash) {
    context.beginPath();
    corners.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    for (const [width, color, dashes] of [[3, light, []], [1.4, dark, dash]]) {
      context.setLineDash(dashes);
      [context.lineWidth, context.strokeStyle] = [width, color];
      context.stroke();
    }
    context.setLineDash([]);
  }

  drawArrows(context, layer, dark) {
    const chosen = layer.selected ?? layer.matched;
    if (!chosen || layer.stages.length < 2) return;
    const rows = [];
    for (let i = 0; i < layer.count; i++) if (chosen[i]) rows.push(i);
    const step = Math.max(1, Math.ceil(rows.length / MOST_ARROWS));
    context.strokeStyle = context.fillStyle = dark;
    context.globalAlpha = rows.length > 120 ? 0.35 : 0.6;
    context.lineWidth = 1;
    for (let k = 0; k < rows.length; k += step) {
      const path = layer.stages.map((_, stage) => this.toScreen(...layer.place(rows[k], stage)));
      context.beginPath();
      path.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
      const [[ax, ay], [bx, by]] = path.slice(-2);
      const turn = Math.atan2(by - ay, bx - ax);
      if (Math.hypot(bx - ax, by - ay) < 6) continue;
      context.beginPath();
      context.moveTo(bx, by);
      for (const side of [-0.4, 0.4]) context.lineTo(bx - 7 * Math.cos(turn + side), by - 7 * Math.sin(turn + side));
      context.fill();
    }
    context.globalAlpha = 1;
  }

  drawNames(context, dark, light) {
    for (const { text, left, top } of this.fittingNames(context)) {
      [context.lineWidth, context.strokeStyle, context.fillStyle] = [4, light, dark];
      context.strokeText(text, left, top + 4);
      context.fillText(text, left, top + 4);
    }
  }

  // The names that find room without covering one that comes before them.
  fittingNames(context) {
    if (this.at !== Math.round(this.at)) return [];
    const taken = [];
    context.font = `600 ${this.stage.clientWidth < 600 ? 11 : 12.5}px ${getComputedStyle(this.root).fontFamily}`;
    context.textAlign = "center";
    context.lineJoin = "round";
    for (const { text, x, y } of this.data.names) {
      const [left, top] = this.toScreen(x, y);
      const half = context.measureText(text).width / 2 + 4;
      const box = [left - half, top - 10, left + half, top + 10];
      const free = taken.every(({ box: o }) => box[2] < o[0] || box[0] > o[2] || box[3] < o[1] || box[1] > o[3]);
      const inside = box[0] >= 4 && box[2] <= this.stage.clientWidth - 4 && box[1] >= 44 && box[3] <= this.stage.clientHeight - 4;
      if (free && inside) taken.push({ box, text, left, top });
    }
    return taken;
  }

  // ---- the legend ---------------------------------------------------------------------

  drawLegend() {
    const { legend } = this.data;
    this.legend.hidden = legend.kind === "none";
    if (legend.kind === "none") return;
    const { words } = this.colors();
    const title = element("div", "legend-title", legend.title);
    if (legend.kind === "continuous") {
      const ramp = element("div", "ramp");
      ramp.style.background = `linear-gradient(90deg, ${[0, 64, 128, 191, 254].map((code) => css(words[code])).join(", ")})`;
      const ends = element("div", "ends");
      ends.append(element("span", "", legend.low), element("span", "", legend.high));
      this.legend.replaceChildren(title, ramp, ends, ...legend.notes.map((note) => element("div", "legend-note", note)));
      return;
    }
    const list = element("div", "items");
    for (const item of legend.items) list.append(this.legendItem(item, words));
    const parts = [title, list];
    if (legend.note) parts.push(element("div", "legend-note", legend.note));
    this.legend.replaceChildren(...parts);
  }

  legendItem(item, words) {
    const scoped = this.data.selected >= 0;
    const node = element("button", `entry${scoped && !item.selected ? " none" : ""}`);
    node.type = "button";
    node.title = item.choice ? `Select “${item.name}”` : item.name;
    node.disabled = !item.choice;
    const dot = element("span", "dot");
    dot.style.background = css(words[item.code]);
    const counts = scoped ? `${number(item.selected)} / ${number(item.total)}` : number(item.total);
    node.append(dot, element("span", "name", item.name), element("span", "count", counts));
    const point = (code) => ((this.emphasis = code), this.draw());
    for (const event of ["pointerenter", "focus"]) node.addEventListener(event, () => point(item.code));
    for (const event of ["pointerleave", "blur"]) node.addEventListener(event, () => point(null));
    node.addEventListener("click", () => (point(null), this.send("category", item.choice)));
    return node;
  }

  // ---- pointers, wheel, keys --------------------------------------------------------------

  listen() {
    const { over } = this;
    over.addEventListener("pointerdown", (event) => this.down(event));
    over.addEventListener("pointermove", (event) => this.moving(event));
    for (const name of ["pointerup", "pointercancel"]) over.addEventListener(name, (event) => this.up(event));
    over.addEventListener("pointerleave", () => !this.pointers.size && this.hover(-1));
    over.addEventListener("dblclick", (event) => this.zoom(2, ...this.at2d(event)));
    over.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    over.addEventListener("keydown", (event) => this.key(event));
    over.addEventListener("blur", () => ((this.cross = null), this.draw()));
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.stage);
    this.lights = window.matchMedia("(prefers-color-scheme: dark)");
    this.relight = () => setTimeout(() => !this.closed && (this.drawLegend(), this.draw()), 400);
    this.lights.addEventListener("change", this.relight);
    this.onHover = ({ detail }) => {
      if (detail.group !== this.data?.group || detail.from === this.data.id || !this.data.group) return;
      const layer = this.whole && this.current();
      this.hovered = layer && detail.row >= 0 ? layer.rows.indexOf(detail.row) : -1;
      this.draw();
    };
    window.addEventListener("vidlankd:point", this.onHover);
    this.onAway = (event) => event.composedPath().includes(this.tools) || event.composedPath().includes(this.menu) || (this.menu.hidden = true);
    window.addEventListener("pointerdown", this.onAway);
  }

  at2d(event) {
    const box = this.over.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (event.button > 0 || !this.whole) return;
    this.over.focus({ preventScroll: true });
    this.cross = null;
    this.over.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at2d(event));
    this.began = { place: this.at2d(event), time: performance.now(), far: 0 };
    this.draft = this.pointers.size === 1 && this.tool !== "move" ? [this.at2d(event)] : null;
    this.pinch = null;
  }

  moving(event) {
    const now = this.at2d(event);
    if (!this.pointers.has(event.pointerId)) return this.hoverAt(now);
    const before = this.pointers.get(event.pointerId);
    this.pointers.set(event.pointerId, now);
    this.began.far = Math.max(this.began.far, Math.hypot(now[0] - this.began.place[0], now[1] - this.began.place[1]));
    if (this.pointers.size === 2) return this.pinching();
    if (this.draft) this.sketch(now);
    else if (this.began.far > 3) this.pan(now[0] - before[0], now[1] - before[1]);
    this.hover(-1);
  }

  pinching() {
    const [[ax, ay], [bx, by]] = [...this.pointers.values()];
    const now = { far: Math.hypot(bx - ax, by - ay), x: (ax + bx) / 2, y: (ay + by) / 2 };
    if (this.pinch) {
      this.pan(now.x - this.pinch.x, now.y - this.pinch.y);
      this.zoom(now.far / Math.max(1, this.pinch.far), now.x, now.y);
    }
    this.pinch = now;
    this.draft = null;
    this.began.far = 99;
  }

  sketch(now) {
    const first = this.draft.start ?? (this.draft.start = this.draft[0]);
    if (this.tool === "box") {
      this.draft = [first, [now[0], first[1]], now, [first[0], now[1]]];
      this.draft.start = first;
    } else this.draft.push(now);
    this.draw();
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    const { draft } = this;
    this.draft = null;
    if (event.type === "pointercancel" || this.pointers.size) return this.draw();
    if (this.began.far < 4) return this.click(this.at2d(event));
    if (draft) this.enclose(draft, event.shiftKey ? "add" : event.altKey ? "remove" : "new");
  }

  enclose(draft, how) {
    this.draw();
    if (this.tool === "box") {
      const [[a, b], [c, d]] = [this.toData(...draft[0]), this.toData(...draft[2])];
      const points = [Math.min(a, c), Math.max(a, c), Math.min(b, d), Math.max(b, d)].map(short);
      return this.send("enclosed", { kind: "box", points, how });
    }
    let outline = simplified(draft, LASSO_PX);
    for (let most = LASSO_PX; outline.length > 120; outline = simplified(draft, (most *= 1.6)));
    if (outline.length < 3) return;
    const points = outline.flatMap(([x, y]) => this.toData(x, y)).map(short);
    this.send("enclosed", { kind: "lasso", points, how });
  }

  wheel(event) {
    // A page is scrolled over a map; the map zooms once it was clicked, or with Ctrl.
    const root = this.over.getRootNode();
    if (!event.ctrlKey && root.activeElement !== this.over) return;
    event.preventDefault();
    this.zoom(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) * 0.006), ...this.at2d(event));
  }

  key(event) {
    const step = event.shiftKey ? 60 : 12;
    const middle = () => this.cross ?? [this.stage.clientWidth / 2, this.stage.clientHeight / 2];
    const go = (dx, dy) => {
      const [x, y] = middle();
      this.cross = [x + dx, y + dy].map((v, i) => Math.min(Math.max(v, 4), (i ? this.stage.clientHeight : this.stage.clientWidth) - 4));
      if (this.draft) this.sketch(this.cross);
      this.hoverAt(this.cross);
      this.draw();
    };
    const act = {
      ArrowRight: () => go(step, 0), ArrowLeft: () => go(-step, 0),
      ArrowDown: () => go(0, step), ArrowUp: () => go(0, -step),
      "+": () => this.zoom(1.4, ...middle()), "=": () => this.zoom(1.4, ...middle()),
      "-": () => this.zoom(1 / 1.4, ...middle()), 0: () => this.fit(),
      b: () => this.mark(middle()), Enter: () => (this.draft ? this.mark(middle()) : this.click(middle())),
      Escape: () => (this.draft ? ((this.draft = null), this.draw()) : this.send("cleared", true)),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || !this.whole) return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has shortcuts of its own
    act();
  }

  // A box by keys: `b` sets its first corner at the cross, `b` or Enter the second.
  mark(place) {
    this.setTool("box");
    if (this.draft?.length === 4) {
      const { draft } = this;
      this.draft = null;
      return this.enclose(draft, "new");
    }
    this.cross = place;
    this.draft = [place];
    this.draft.start = place;
    this.draw();
  }

  // ---- the point under the pointer -----------------------------------------------------------

  nearest([left, top]) {
    if (this.at !== Math.round(this.at) || !this.whole) return -1;
    const layer = this.current();
    const reach = HOVER_PX / this.scale();
    const [x, y] = this.toData(left, top);
    const [u, v] = layer.unit(x, y);
    const [ru, rv] = layer.unit(layer.bounds[0] + reach, layer.bounds[2] + reach);
    return layer.grid(Math.min(this.at, layer.stages.length - 1)).nearest(u, v, ru, rv);
  }

  hoverAt(place) {
    this.pointer = place;
    if (this.whole && !this.data.labels && !this.asked) {
      this.asked = true;
      this.send("asked", true);
    }
    this.hover(this.nearest(place));
  }

  hover(index) {
    if (index === this.hovered) return;
    this.hovered = index;
    const row = index >= 0 ? this.current().rows[index] : -1;
    if (this.data?.group) window.dispatchEvent(new CustomEvent("vidlankd:point", { detail: { group: this.data.group, from: this.data.id, row } }));
    this.describe();
    this.draw();
  }

  click(place) {
    const index = this.nearest(place);
    if (index >= 0) this.send("picked", this.current().rows[index]);
  }

  // The card beside the pointer: the word in its sentence, or the clip's picture and caption.
  describe() {
    const layer = this.whole && this.current();
    const labels = layer === this.detail ? this.finer : this.labels;
    const i = this.hovered;
    this.card.hidden = i < 0 || !layer || !labels || !this.pointer;
    this.root.dataset.hovered = this.card.hidden ? "" : layer.rows[i];
    if (this.card.hidden) return;
    const word = labels.texts[labels.text[i]];
    const parts = [element("strong", "word", word)];
    const context = labels.contexts[labels.context[i]];
    if (this.data.sheet && labels.picture?.[i]) parts.unshift(this.thumbnail(labels.sheet, labels.picture[i] - 1));
    if (context && context !== word) parts.push(this.sentence(context, labels.start[i], labels.end[i]));
    const fact = this.fact(layer, i);
    if (fact) parts.push(element("span", "fact", fact));
    this.card.replaceChildren(...parts);
    this.read.textContent = [word, context, fact].filter(Boolean).join(". ");
    const [x, y] = this.pointer;
    const room = this.stage.clientWidth;
    const width = Math.min(300, room - 16);
    this.card.style.maxWidth = `${width}px`;
    this.card.style.left = `${Math.max(8, Math.min(x + 16, room - width - 8))}px`;
    const above = y > this.stage.clientHeight / 2;
    this.card.style.top = above ? "auto" : `${y + 18}px`;
    this.card.style.bottom = above ? `${this.stage.clientHeight - y + 14}px` : "auto";
  }

  sentence(context, start, end) {
    const node = element("span", "context");
    const from = Math.max(0, start - 70);
    const to = Math.min(context.length, end + 70);
    node.append(`${from ? "…" : ""}${context.slice(from, start)}`);
    if (end > start) node.append(element("mark", "", context.slice(start, end)));
    node.append(`${context.slice(Math.max(start, end), to)}${to < context.length ? "…" : ""}`);
    return node;
  }

  thumbnail(sheet, number) {
    const node = element("span", "thumbnail");
    node.style.width = `${sheet.width}px`;
    node.style.height = `${sheet.height}px`;
    node.style.backgroundImage = `url("${this.data.sheet}")`;
    node.style.backgroundPosition = `-${(number % sheet.columns) * sheet.width}px -${Math.floor(number / sheet.columns) * sheet.height}px`;
    return node;
  }

  fact(layer, i) {
    const { legend } = this.data;
    if (!layer.codes || legend.kind === "none") return "";
    if (legend.kind === "category") {
      const item = legend.items.find((each) => each.code === layer.codes[i]);
      return item ? `${legend.title}: ${item.name}` : "";
    }
    const code = layer.codes[i];
    return code === 255 ? `${legend.title}: unknown` : `${legend.title}: about ${legend.steps[Math.round((code / 254) * (legend.steps.length - 1))]}`;
  }

  // ---- from one map to the next ---------------------------------------------------------------

  moveTo(at) {
    this.at = at;
    this.slider.value = at;
    this.hover(-1);
    this.draw();
  }

  run() {
    cancelAnimationFrame(this.running);
    const last = Number(this.slider.max);
    const from = this.at >= last ? 0 : this.at;
    const began = performance.now();
    const step = (now) => {
      const at = Math.min(last, from + (now - began) / 1400);
      this.moveTo(at);
      if (at < last && !this.closed) this.running = requestAnimationFrame(step);
    };
    this.running = requestAnimationFrame(step);
  }

  // ---- pictures ----------------------------------------------------------------------------------

  save(kind) {
    this.paint();
    const flat = element("canvas");
    [flat.width, flat.height] = [this.canvas.width, this.canvas.height];
    const context = flat.getContext("2d");
    context.fillStyle = css(this.colors().paper);
    context.fillRect(0, 0, flat.width, flat.height);
    context.drawImage(this.canvas, 0, 0);
    const hovered = this.hovered;
    this.hovered = -1;
    this.drawOver(this.current());
    this.hovered = hovered;
    if (kind === "PNG") {
      context.drawImage(this.over, 0, 0);
      return flat.toBlob((blob) => this.download(blob, "png"), "image/png");
    }
    this.download(new Blob([this.vector(flat)], { type: "image/svg+xml" }), "svg");
  }

  // Up to 20,000 points become circles; more are an image under the drawn lines and names.
  vector(flat) {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const layer = this.current();
    const { words, paper, ink } = this.colors();
    const safe = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
    const parts = [`<rect width="${width}" height="${height}" fill="${css(paper)}"/>`];
    if (layer.count > 20000) {
      parts.push(`<image width="${width}" height="${height}" href="${flat.toDataURL("image/png")}"/>`);
    } else {
      const states = layer.states(null);
      const order = [...Array(layer.count).keys()];
      if (states) order.sort((a, b) => states[a] - states[b]);
      for (const i of order) {
        const [x, y] = this.toScreen(...layer.place(i, this.at));
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        const dimmed = states && states[i] === 0;
        const r = this.radius(layer) * (layer.sizes ? layer.sizes[i] / 64 : 1) * (states?.[i] >= FRONT ? 1.35 : 1);
        const color = css(words[(dimmed ? 256 : 0) + (layer.codes ? layer.codes[i] : 0)]);
        const ring = states?.[i] === RING ? ` stroke="${css(ink)}" stroke-width="1.6"` : "";
        parts.push(`<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${r.toFixed(2)}" fill="${color}" fill-opacity="${dimmed ? 0.3 : 0.85}"${ring}/>`);
      }
    }
    for (const shape of this.data.shapes) {
      const points = this.corners(shape).map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
      parts.push(`<polygon points="${points}" fill="none" stroke="${css(ink)}" stroke-dasharray="5 4"/>`);
    }
    for (const { text, left, top } of this.fittingNames(this.over.getContext("2d"))) {
      parts.push(`<text x="${left.toFixed(1)}" y="${(top + 4).toFixed(1)}" text-anchor="middle" font-family="sans-serif" font-size="12" font-weight="600" fill="${css(ink)}" stroke="${css(paper)}" stroke-width="3" paint-order="stroke">${safe(text)}</text>`);
    }
    return `<svg xmlns="${SVG}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${parts.join("\n")}</svg>`;
  }

  download(blob, suffix) {
    const link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${this.data.file}.${suffix}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  close() {
    this.closed = true;
    clearTimeout(this.resting);
    cancelAnimationFrame(this.drawing);
    this.sizes.disconnect();
    this.lights.removeEventListener("change", this.relight);
    window.removeEventListener("vidlankd:point", this.onHover);
    window.removeEventListener("pointerdown", this.onAway);
    this.painter?.close();
  }
}

const scatters = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let scatter = scatters.get(parentElement);
  if (!scatter) scatters.set(parentElement, (scatter = new Scatter(parentElement)));
  scatter.trigger = setTriggerValue;
  scatter.show(data);
  return () => {
    scatter.close();
    scatter.root.remove();
    scatters.delete(parentElement);
  };
}
