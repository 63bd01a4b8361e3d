// Captions with their times. A click moves the player; the line that it shows is marked.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: captions are user text
  return node;
}

function clock(sec) {
  return `${Math.floor(sec / 60)}:${(sec % 60).toFixed(1).padStart(4, "0")}`;
}

export default function ({ data, parentElement, setTriggerValue }) {
  parentElement.cleanTimeline?.();
  const root = element("div", "root");
  const list = element("ul", "lines");
  const buttons = data.lines.map((line) => {
    const item = element("li");
    const button = element("button", "line");
    button.type = "button";
    button.append(element("span", "when", clock(line.start)), element("span", "text", line.text));
    button.addEventListener("click", () => {
      window.dispatchEvent(new CustomEvent("vidlankd:seek", { detail: { id: data.player, sec: line.start } }));
      const [from, to] = data.window;
      if (line.start < from || line.start >= to) setTriggerValue("sought", line.start);
    });
    item.append(button);
    list.append(item);
    return button;
  });
  root.append(list);
  parentElement.append(root);
  const onTime = (event) => {
    if (event.detail.id !== data.player) return;
    const sec = event.detail.sec + 0.02;
    data.lines.forEach((line, row) => buttons[row].classList.toggle("now", sec >= line.start && sec < line.end));
  };
  window.addEventListener("vidlankd:time", onTime);
  window.dispatchEvent(new CustomEvent("vidlankd:ask", { detail: { id: data.player } }));
  parentElement.cleanTimeline = () => {
    window.removeEventListener("vidlankd:time", onTime);
    root.remove();
    parentElement.cleanTimeline = undefined;
  };
  return () => parentElement.cleanTimeline?.();
}
