// Copies the address, which holds the whole view.

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
  button.textContent = data.label;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(window.location.href);
      button.textContent = data.done;
    } catch {
      button.textContent = data.refused; // no permission, or a page without https
    }
    setTimeout(() => (button.textContent = data.label), 2500);
  };
}
