// Tokens down, seconds across. A cell moves the player with the same id there, without a
// round trip to the server; the player's position comes back as a line over the cells.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: tokens are user text
  return node;
}

function drawRow(token, data) {
  const row = element("div", `row${token.index === data.selected ? " chosen" : ""}`);
  row.setAttribute("role", "row");
  token.values.forEach((value, column) => {
    const [from, to] = data.columns[column];
    const cell = element("div", "cell");
    cell.setAttribute("role", "gridcell");
    cell.dataset.column = column;
    cell.dataset.from = from;
    cell.dataset.token = token.index;
    cell.style.setProperty("--v", value);
    cell.style.setProperty("--w", to - from);
    row.append(cell);
  });
  return row;
}

function drawAxis(data) {
  const axis = element("div", "axis");
  const total = data.length;
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200];
  const step = steps.find((s) => total / s <= 9) ?? 3600;
  for (let sec = 0; sec <= total - 0.45 * step || sec === 0; sec += step) {
    const tick = element("span", "tick", `${sec}`);
    tick.style.left = `${(100 * sec) / total}%`;
    axis.append(tick);
  }
  const last = element("span", "tick last", `${Number(total.toFixed(1))}`);
  last.style.left = "100%";
  axis.append(last);
  return axis;
}

function drawHeading(data) {
  const heading = element("div", `heading ${data.color}`);
  heading.append(element("strong", "", data.title));
  const scale = element("span", "scale");
  scale.append(
    element("span", "", data.low.toFixed(2)),
    element("span", "ramp"),
    element("span", "", `${data.high.toFixed(2)} cosine`),
  );
  heading.append(scale);
  return heading;
}

export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.cleanHeatmap?.();
  const root = element("div", `root ${data.color}${data.columns.length > 60 ? " dense" : ""}`);
  const map = element("div", "map");
  const words = element("div", "words");
  const cells = element("div", "cells");
  cells.setAttribute("role", "grid");
  cells.setAttribute("aria-label", `${data.title}: words by seconds`);
  cells.tabIndex = 0;
  const cursor = element("div", "cursor");
  const read = element("div", "read", data.hint);
  for (const token of data.tokens) {
    const word = element("button", `word${token.index === data.selected ? " chosen" : ""}`, token.text);
    word.title = token.text;
    word.addEventListener("click", () => setTriggerValue("picked", token.index));
    words.append(word);
    cells.append(drawRow(token, data));
  }
  cells.append(cursor);
  map.append(words, cells, drawAxis(data), element("div", "axis-title", "seconds of the video"), read);
  root.append(drawHeading(data), map);
  parentElement.append(root);

  // ---- reading and seeking ------------------------------------------------------------
  let active = { row: Math.max(0, data.tokens.findIndex((t) => t.index === data.selected)), column: 0 };
  const describe = (row, column) => {
    const [from, to] = data.columns[column];
    const span = to - from > 1 ? `seconds ${from}–${to}` : `second ${from}`;
    read.textContent = `“${data.tokens[row].text}” · ${span} · cosine ${data.tokens[row].scores[column].toFixed(2)}`;
  };
  const seek = (row, column) => {
    const [from, to] = data.columns[column];
    const peak = data.tokens[row].peaks?.[column] ?? from;
    window.dispatchEvent(new CustomEvent("vidlankd:seek", { detail: { id: data.player, sec: peak } }));
    if (peak < data.window[0] || peak >= data.window[1]) setTriggerValue("sought", peak);
  };
  const place = (cell) => ({
    row: [...cells.querySelectorAll(".row")].indexOf(cell.parentElement),
    column: Number(cell.dataset.column),
  });
  const mark = () => {
    cells.querySelectorAll(".active").forEach((c) => c.classList.remove("active"));
    cells.querySelectorAll(".row")[active.row]?.children[active.column]?.classList.add("active");
    describe(active.row, active.column);
  };
  cells.addEventListener("pointerover", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) describe(...Object.values(place(cell)));
  });
  cells.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    active = place(cell);
    seek(active.row, active.column);
  });
  cells.addEventListener("keydown", (event) => {
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (move) {
      active.row = Math.min(data.tokens.length - 1, Math.max(0, active.row + move[0]));
      active.column = Math.min(data.columns.length - 1, Math.max(0, active.column + move[1]));
      mark();
    } else if (event.key === "Enter" || event.key === " ") seek(active.row, active.column);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  cells.addEventListener("blur", () => cells.querySelectorAll(".active").forEach((c) => c.classList.remove("active")));
  const onTime = (event) => {
    if (event.detail.id === data.player) cursor.style.left = `${(100 * event.detail.sec) / data.length}%`;
  };
  window.addEventListener("vidlankd:time", onTime);
  window.dispatchEvent(new CustomEvent("vidlankd:ask", { detail: { id: data.player } }));
  parentElement.cleanHeatmap = () => {
    window.removeEventListener("vidlankd:time", onTime);
    root.remove();
    parentElement.cleanHeatmap = undefined;
  };
  return () => parentElement.cleanHeatmap?.();
}
