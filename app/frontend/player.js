// A video with its relevance on the seek bar. Times shown and exchanged are seconds of the
// original file; `offset` is where the served piece starts in it.
// Other components talk to a player through window events:
//   "vidlankd:seek" {id, sec} moves it, "vidlankd:ask" {id} makes it say where it is,
//   "vidlankd:time" {id, sec} is what it says

const ICON = {
  play: "M8 5v14l11-7z",
  pause: "M6 5h4v14H6zm8 0h4v14h-4z",
};

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: captions are user text
  return node;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

function clock(sec) {
  const minutes = Math.floor(sec / 60);
  const rest = (sec - 60 * minutes).toFixed(1).padStart(4, "0");
  return `${minutes}:${rest}`;
}

class Player {
  constructor(host) {
    this.host = host;
    this.build();
    this.listen();
  }

  build() {
    this.root = element("div", "root player");
    this.screen = element("div", "screen");
    this.video = element("video");
    this.video.playsInline = true;
    this.video.muted = true; // previews carry no sound; files served whole keep to the same
    this.video.preload = "auto";
    this.playButton = element("button", "play");
    this.problem = element("div", "problem", "This browser cannot play the video.");
    this.screen.append(this.video, this.playButton, this.problem);
    this.bar = element("div", "bar");
    this.bar.tabIndex = 0;
    this.bar.setAttribute("role", "slider");
    this.strips = element("div", "strips");
    this.span = element("div", "span");
    this.marker = element("div", "marker");
    this.tip = element("div", "tip");
    this.bar.append(this.span, this.strips, this.marker, this.tip);
    this.under = element("div", "under");
    this.time = element("span", "time");
    this.badges = element("span", "badges");
    this.earlier = element("button", "turn", "‹ earlier");
    this.later = element("button", "turn", "later ›");
    this.earlier.addEventListener("click", () => this.turn(this.data.offset - 1));
    this.later.addEventListener("click", () => this.turn(this.data.offset + this.data.length + 1));
    this.under.append(this.time, this.earlier, this.later, this.badges);
    this.caption = element("p", "caption");
    this.foot = element("div", "foot");
    this.title = element("p", "title");
    this.action = element("button", "action");
    this.action.addEventListener("click", () => this.act());
    this.foot.append(this.title, this.action);
    this.root.append(this.screen, this.bar, this.under, this.caption, this.foot);
    this.host.append(this.root);
  }

  listen() {
    const video = this.video;
    this.screen.addEventListener("click", () => this.toggle());
    this.playButton.addEventListener("click", (event) => (event.stopPropagation(), this.toggle()));
    for (const name of ["play", "pause"]) video.addEventListener(name, () => this.drawButtons());
    for (const name of ["seeked", "timeupdate", "loadeddata"]) video.addEventListener(name, () => this.draw());
    video.addEventListener("play", () => this.follow());
    video.addEventListener("loadedmetadata", () => this.place(this.wanted));
    video.addEventListener("error", () => this.root.setAttribute("data-problem", "true"));
    this.bar.addEventListener("pointerdown", (event) => this.drag(event));
    this.bar.addEventListener("pointermove", (event) => this.hover(event));
    this.bar.addEventListener("keydown", (event) => this.key(event));
    this.onSeek = (event) => {
      if (event.detail.id !== this.data.id) return;
      this.root.scrollIntoView({ block: "nearest", behavior: "smooth" });
      this.seek(event.detail.sec);
    };
    window.addEventListener("vidlankd:seek", this.onSeek);
    this.onAsk = (event) => event.detail.id === this.data.id && this.draw();
    window.addEventListener("vidlankd:ask", this.onAsk);
  }

  show(data) {
    const old = this.data;
    this.data = data;
    const moved = !old || old.src !== data.src || old.at !== data.at || old.asked !== data.asked;
    this.root.dataset.player = data.id;
    this.root.dataset.start = data.start;
    this.root.dataset.end = data.end;
    this.video.setAttribute("aria-label", data.caption || data.title || "Video");
    this.bar.setAttribute("aria-label", `Position, seconds. ${data.title || ""}`);
    this.bar.setAttribute("aria-valuemin", data.offset);
    this.bar.setAttribute("aria-valuemax", data.offset + data.length);
    this.screen.style.aspectRatio = data.aspect;
    this.drawStrips();
    this.badges.replaceChildren(...data.badges.map((b) => {
      const badge = element("span", `badge ${b.color}`, b.text);
      badge.title = b.help;
      return badge;
    }));
    this.caption.textContent = data.caption || "";
    this.caption.hidden = !data.caption;
    this.caption.title = data.caption || "";
    this.title.textContent = this.title.title = data.title || "";
    // Of a long video only a piece is loaded; these bring the next one.
    this.earlier.hidden = !data.turns || data.offset <= 0;
    this.later.hidden = !data.turns || data.offset + data.length >= data.total - 0.05;
    this.action.textContent = data.action || "";
    this.action.hidden = !data.action;
    this.foot.hidden = !data.title && !data.action;
    if (!old || old.src !== data.src) this.load();
    else if (moved) this.seek(data.at);
    this.drawButtons();
    this.draw();
  }

  load() {
    this.root.removeAttribute("data-problem");
    this.root.removeAttribute("data-ready");
    this.wanted = this.data.at;
    this.video.src = this.data.src;
    this.video.load();
  }

  drawStrips() {
    const { strips, offset, length, start, end } = this.data;
    const rows = strips.map((strip) => {
      const row = element("div", `strip ${strip.color}${strips.length === 1 ? " only" : ""}`);
      strip.values.forEach((value, second) => {
        const from = Math.max(strip.first + second, offset);
        const to = Math.min(strip.first + second + 1, offset + length);
        if (to <= from) return;
        const cell = element("div", "second");
        cell.style.setProperty("--v", value);
        cell.style.setProperty("--w", to - from);
        row.append(cell);
      });
      return row;
    });
    this.strips.replaceChildren(...(rows.length ? rows : [element("div", "strip only")]));
    this.span.hidden = !(end > start);
    this.span.style.left = `${(100 * (start - offset)) / length}%`;
    this.span.style.width = `${(100 * (Math.min(end, offset + length) - start)) / length}%`;
  }

  // ---- position ---------------------------------------------------------------------

  now() {
    return this.data.offset + this.video.currentTime;
  }

  place(sec) {
    const inside = Math.min(Math.max(sec - this.data.offset, 0), Math.max(0, this.data.length - 0.04));
    this.video.currentTime = inside;
  }

  seek(sec) {
    this.wanted = sec;
    this.stopAt = null;
    if (this.video.readyState >= 1) this.place(sec);
  }

  toggle() {
    if (!this.video.paused) return this.video.pause();
    const { start, end, at } = this.data;
    const sec = this.now();
    if (this.video.ended) this.place(at);
    // The first play shows the matched piece and halts at its end; the next one goes on.
    const inside = sec >= Math.min(start, at) - 0.1 && sec < end - 0.1;
    this.stopAt = end > start && inside ? end : null;
    this.video.play().catch(() => this.drawButtons()); // a seek or a removed page interrupts it
  }

  follow() {
    if (this.stopAt !== null && this.now() >= this.stopAt) {
      this.stopAt = null;
      this.video.pause();
    }
    this.draw();
    if (!this.video.paused) requestAnimationFrame(() => this.follow());
  }

  draw() {
    const sec = this.now();
    const { offset, length } = this.data;
    this.marker.style.left = `${Math.min(100, Math.max(0, (100 * (sec - offset)) / length))}%`;
    this.time.textContent = `${clock(sec)} / ${clock(this.data.total)}`;
    this.root.dataset.currentTime = sec.toFixed(3);
    if (this.video.readyState >= 2 && !this.video.seeking) this.root.dataset.ready = "true";
    this.bar.setAttribute("aria-valuenow", sec.toFixed(1));
    this.bar.setAttribute("aria-valuetext", `${sec.toFixed(1)} seconds`);
    window.dispatchEvent(new CustomEvent("vidlankd:time", { detail: { id: this.data.id, sec } }));
  }

  drawButtons() {
    const playing = !this.video.paused;
    this.root.dataset.playing = playing;
    this.playButton.replaceChildren(icon(playing ? ICON.pause : ICON.play));
    this.playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  // ---- pointer and keys -------------------------------------------------------------

  secondAt(event) {
    const box = this.bar.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return this.data.offset + part * this.data.length;
  }

  drag(event) {
    this.seek(this.secondAt(event));
    const move = (e) => this.seek(this.secondAt(e));
    const stop = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", stop);
      window.removeEventListener("pointercancel", stop);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", stop);
    window.addEventListener("pointercancel", stop);
  }

  hover(event) {
    const sec = this.secondAt(event);
    const scores = this.data.strips
      .map((strip) => strip.scores[Math.floor(sec) - strip.first])
      .filter((score) => score !== undefined);
    this.tip.textContent = [clock(sec), ...scores.map((s) => s.toFixed(2))].join(" · ");
    this.tip.classList.add("on");
    const part = (sec - this.data.offset) / this.data.length;
    this.tip.style.left = `${Math.min(88, Math.max(12, 100 * part))}%`;
  }

  key(event) {
    const step = event.shiftKey ? 0.2 : 1;
    const { offset, length } = this.data;
    const jump = {
      ArrowRight: () => this.seek(Math.min(this.now() + step, offset + length)),
      ArrowLeft: () => this.seek(Math.max(this.now() - step, offset)),
      Home: () => this.seek(offset),
      End: () => this.seek(offset + length),
      " ": () => this.toggle(),
      Enter: () => this.toggle(),
    }[event.key];
    if (!jump) return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has shortcuts of its own
    jump();
  }

  close() {
    window.removeEventListener("vidlankd:seek", this.onSeek);
    window.removeEventListener("vidlankd:ask", this.onAsk);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}

const players = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let player = players.get(parentElement);
  if (!player) players.set(parentElement, (player = new Player(parentElement)));
  player.act = () => setTriggerValue("acted", true);
  player.turn = (sec) => setTriggerValue("sought", sec);
  player.show(data);
  return () => {
    player.close();
    player.root.remove();
    players.delete(parentElement);
  };
}
