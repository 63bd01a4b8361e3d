// The texts of an item, piece by piece: a bar is as tall as the piece is unlikely to a model.
// Models stand below each other, so that the same piece can be compared; texts side by side.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: it is what users type
  return node;
}

function colors(root) {
  const own = getComputedStyle(root).getPropertyValue("--st-chart-categorical-colors");
  const found = own.split(/,(?![^(]*\))/).map((color) => color.trim()).filter(Boolean);
  return found.length ? found : ["var(--a)", "var(--b)"];
}

function piece(each, most) {
  const cell = element("span", `piece${each.begins ? " begins" : ""}`);
  cell.setAttribute("role", "listitem");
  const help = `“${each.text}”: ${each.value.toFixed(2)} nats, probability ${each.share}`;
  cell.setAttribute("aria-label", help);
  cell.title = help;
  const well = element("span", "well");
  const bar = element("span", "bar");
  bar.style.setProperty("--v", Math.min(1, -each.value / most));
  well.append(bar);
  cell.append(well, element("span", "text", each.text));
  return cell;
}

function model(each, data, palette) {
  const node = element("div", "model");
  node.dataset.model = each.name;
  node.style.setProperty("--own", palette[each.place % palette.length]);
  const head = element("div", "head");
  head.append(element("span", "dot"), element("span", "name", each.name));
  head.append(element("span", "score", each.score));
  if (each.change) head.append(element("span", `change ${each.direction}`, each.change));
  if (each.chosen) head.append(element("span", "chosen", data.chosen));
  const strip = element("div", "strip");
  strip.setAttribute("role", "list");
  strip.setAttribute("aria-label", `${each.name}: log probability of each piece`);
  for (const part of each.pieces) strip.append(piece(part, data.most));
  node.append(head, strip);
  return node;
}

function choice(each, data, palette) {
  const node = element("section", `choice${each.right ? " right" : ""}`);
  const title = element("div", "title");
  title.append(element("span", "mark", each.mark), element("span", "words", each.text));
  if (each.right) title.append(element("span", "badge", data.right));
  node.append(title, ...each.models.map((one) => model(one, data, palette)));
  return node;
}

export default function ({ data, parentElement }) {
  const old = parentElement.querySelector(".root");
  const root = element("div", "root");
  if (old) old.replaceWith(root);
  else parentElement.append(root);
  const palette = colors(root);
  const grid = element("div", "choices");
  grid.append(...data.choices.map((each) => choice(each, data, palette)));
  root.append(grid, element("div", "legend", data.legend));
  return () => root.remove();
}
