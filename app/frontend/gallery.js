// Videos as buttons with a picture.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: names and captions are user text
  return node;
}

function drawCard(card, pick) {
  const node = element("button", "card");
  node.type = "button";
  node.dataset.video = card.id;
  node.title = card.name;
  const picture = element("span", "picture");
  if (card.picture) {
    const image = element("img");
    image.src = card.picture;
    image.alt = "";
    image.loading = "lazy";
    picture.append(image);
  }
  picture.append(element("span", "duration", card.duration));
  node.append(picture, element("span", "name", card.name));
  if (card.caption) node.append(element("span", "caption", card.caption));
  node.append(element("span", "facts", [card.clips, card.remark].filter(Boolean).join(" · ")));
  node.addEventListener("click", () => pick(card.id));
  return node;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = element("div", "root");
  const cards = element("div", "cards");
  cards.append(...data.cards.map((card) => drawCard(card, (id) => setTriggerValue("picked", id))));
  root.append(cards);
  const old = parentElement.querySelector(".root");
  if (old) old.replaceWith(root);
  else parentElement.append(root);
  return () => root.remove();
}
