/* One tab stop for a group of controls; the arrow keys, Home and End move inside of it. */
function roving(container, selector = "button") {
  const controls = () => [...container.querySelectorAll(selector)].filter((node) => !node.closest("[hidden]"));
  const select = (chosen) => {
    for (const node of container.querySelectorAll(selector)) node.tabIndex = node === chosen ? 0 : -1;
  };
  select(container.querySelector(`${selector}[aria-current]`) ?? container.querySelector(selector));
  container.addEventListener("focusin", ({ target }) => target.matches(selector) && select(target));
  container.addEventListener("keydown", (event) => {
    const nodes = controls();
    const place = nodes.indexOf(document.activeElement);
    const next = place < 0 ? null : nextPlace(event.key, place, nodes.length);
    if (next === null) return;
    event.preventDefault();
    nodes[next].focus();
  });
  return container;
}

function nextPlace(key, place, count) {
  if (key === "ArrowRight" || key === "ArrowDown") return (place + 1) % count;
  if (key === "ArrowLeft" || key === "ArrowUp") return (place + count - 1) % count;
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  return null;
}
