// Copies a link that holds the whole view. The address bar leaves out what is still a default,
// and a default may change.

export default function ({ data, parentElement }) {
  let button = parentElement.querySelector("button");
  if (!button) {
    const root = document.createElement("div");
    root.className = "root place";
    button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    root.append(button);
    parentElement.append(root);
  }
  const link = `${window.location.origin}${window.location.pathname}?${new URLSearchParams(data.query)}`;
  button.dataset.link = link;
  button.textContent = data.label;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(link);
      button.textContent = data.done;
    } catch {
      button.textContent = data.refused; // no permission, or a page without https
    }
    setTimeout(() => (button.textContent = data.label), 2500);
  };
}
