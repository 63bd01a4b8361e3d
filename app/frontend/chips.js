// A sentence whose tokens are a group of radio buttons: one is chosen. Its shade says how
// strongly the token grounds for the first model, the stroke below for the second.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: it is what users type
  return node;
}

function chip(part, data, pick) {
  const chosen = part.index === data.selected;
  const node = element("button", "chip", part.text);
  node.type = "button";
  node.setAttribute("role", "radio");
  node.setAttribute("aria-checked", chosen);
  node.tabIndex = chosen ? 0 : -1;
  node.dataset.token = part.index;
  node.title = part.help;
  node.style.setProperty("--va", part.a);
  if (part.b !== null) {
    const under = element("span", "under");
    under.style.setProperty("--vb", part.b);
    node.append(under);
  }
  node.addEventListener("click", () => pick(part.index));
  return node;
}

function moveFocus(event, group) {
  const forward = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const chips = [...group.querySelectorAll(".chip")];
  const here = chips.indexOf(event.target);
  if (!forward || here < 0) return;
  event.preventDefault();
  event.stopPropagation();
  chips[(here + forward + chips.length) % chips.length].focus();
}

function legend(data) {
  const node = element("div", "legend");
  const first = element("span", "key");
  first.append(element("span", "ramp"), element("span", "", data.legend_a));
  node.append(first);
  if (data.legend_b) {
    const second = element("span", "key");
    second.append(element("span", "stroke"), element("span", "", data.legend_b));
    node.append(second);
  }
  return node;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const old = parentElement.querySelector(".root");
  const focused = parentElement.activeElement?.dataset?.token;
  const root = element("div", "root");
  const group = element("div", "chips");
  group.setAttribute("role", "radiogroup");
  group.setAttribute("aria-label", data.label);
  const pick = (index) => setTriggerValue("picked", index);
  for (const part of data.parts) {
    group.append(part.index === null ? element("span", "gap", part.text) : chip(part, data, pick));
  }
  group.addEventListener("keydown", (event) => moveFocus(event, group));
  if (!group.querySelector('[tabindex="0"]')) group.querySelector(".chip")?.setAttribute("tabindex", "0");
  root.append(group, legend(data));
  if (old) old.replaceWith(root);
  else parentElement.append(root);
  if (focused !== undefined) root.querySelector(`[data-token="${CSS.escape(focused)}"]`)?.focus();
  return () => root.remove();
}
