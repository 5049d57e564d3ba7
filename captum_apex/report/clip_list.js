/* The list of clips: searched, filtered and sorted by the reader. */
const FEW = 6; // so many clips need no search
const LARGEST_SHARE = 2; // where the layer adds little to the logit, a larger share of that little says nothing
const ORDERS = {
  file: ["as given", (entry) => entry.number],
  name: ["name", (entry) => entry.name],
  high: ["highest logit", (entry) => -entry.page.score],
  low: ["lowest logit", (entry) => entry.page.score],
  most: ["most covered", ({ covered }) => -(covered?.share ?? -Infinity)],
  least: ["least covered", ({ covered }) => covered?.share ?? Infinity],
};
const PROBABLE = {
  probable: ["most probable", (entry) => -(entry.page.probability ?? -Infinity)],
  improbable: ["least probable", (entry) => entry.page.probability ?? Infinity],
};
const PROBABILITIES = ["0.99", "0.9", "0.7", "0.5", "0.3"];
const listed = { search: "", order: "file", class: "", right: "", probability: "" };
if (facts.pages.some((page) => page.probability !== null)) Object.assign(ORDERS, PROBABLE);

const entries = facts.pages.map((page, i) => {
  const clip = facts.clips[page.clip];
  const name = page.name || clip.title || `Clip ${i + 1}`;
  const text = `${clip.title} ${name} ${clip.name} ${page.explained}`.toLowerCase();
  return { page, number: i + 1, name, text, covered: coveredBy(page) };
});

/* The perspective whose channels add up to most of what the layer adds to the logit, and their share of it; null where
   the layer adds nothing. */
function coveredBy(page) {
  const shares = page.perspectives
    .filter(({ score, before }) => score > before)
    .map(({ scheme, evidence, score, before }) => {
      return { scheme, share: evidence.reduce((sum, channel) => sum + channel.contribution, 0) / (score - before) };
    });
  return shares.reduce((best, each) => (best && best.share >= each.share ? best : each), null);
}

function clipList() {
  const nav = document.getElementById("list");
  nav.hidden = entries.length < 2;
  const list = element("ol", {});
  const count = element("p", { class: "count", role: "status" });
  const update = () => {
    const shown = selection();
    count.textContent = shown.length < entries.length ? `${shown.length} of ${counted(entries.length, "clip")}` : "";
    list.replaceChildren(...shown.map(entryLine));
    roving(list, "a");
    markCurrent();
  };
  nav.replaceChildren(...(entries.length > FEW ? [listTools(update), count] : meaningOfShares()), list);
  update();
}

/* What the percentages of the list are, where they stand. */
function meaningOfShares() {
  const text = "“Covered”: how much of what the layer adds to the logit comes from the channels shown, in the " +
    "perspective with the largest share. Above 100%, other channels speak against the class.";
  return [element("p", { class: "hint" }, text)];
}

function selection() {
  const words = listed.search.toLowerCase().split(/\s+/).filter(Boolean);
  const key = ORDERS[listed.order][1];
  return entries
    .filter(({ text, page }) => {
      if (listed.class && page.explained !== listed.class) return false;
      if (listed.right && String(page.right) !== listed.right) return false;
      if (listed.probability && !probable(page)) return false;
      return words.every((word) => text.includes(word));
    })
    .map((entry) => ({ entry, key: key(entry) }))
    .sort((one, two) => compared(one.key, two.key) || one.entry.number - two.entry.number)
    .map(({ entry }) => entry);
}

function probable({ probability }) {
  const [side, limit] = listed.probability.split(" ");
  if (probability === null) return false;
  return side === "above" ? probability >= Number(limit) : probability < Number(limit);
}

function compared(one, two) {
  if (typeof one === "string") return one.localeCompare(two, undefined, { numeric: true });
  return one < two ? -1 : Number(one > two);
}

function listTools(update) {
  const change = (key) => ({ currentTarget }) => {
    listed[key] = currentTarget.value;
    update();
  };
  const classes = [...new Set(facts.pages.map((page) => page.explained))].filter(Boolean).sort();
  const rights = { true: "right", false: "wrong" };
  const known = facts.pages.some((page) => page.right !== null);
  return element(
    "div",
    { class: "list-tools" },
    element("label", { class: "unseen", for: "search" }, "Search the clips"),
    element("input", { id: "search", type: "search", placeholder: "Search the clips", oninput: change("search") }),
    folded("Sort and filter", [
      choice("Sort", "order", Object.entries(ORDERS).map(([key, [text]]) => [key, text]), change),
      classes.length > 1 ? choice("Class", "class", [["", "all"], ...classes.map((name) => [name, name])], change) : null,
      known ? choice("Model", "right", [["", "right and wrong"], ...Object.entries(rights)], change) : null,
      ORDERS.probable ? choice("Probability", "probability", probabilityOptions(), change) : null,
      ...meaningOfShares(),
    ]),
  );
}

/* Folded where the list stands above the clip, so that the clip is not far below it. */
function folded(title, children) {
  const details = element("details", { class: "choices" }, element("summary", {}, title), children);
  const wide = matchMedia("(min-width: 60rem)");
  const unfold = () => (details.open = wide.matches);
  wide.addEventListener("change", unfold);
  unfold();
  return details;
}

function probabilityOptions() {
  const above = PROBABILITIES.map((limit) => [`above ${limit}`, `at least ${limit}`]);
  const below = PROBABILITIES.map((limit) => [`below ${limit}`, `below ${limit}`]);
  return [["", "any"], ...above, ...below];
}

function choice(text, key, options, change) {
  const items = options.map(([value, name]) => element("option", { value }, name));
  const select = element("select", { id: `list-${key}`, onchange: change(key) }, items);
  return element("div", { class: "choice" }, element("label", { for: `list-${key}` }, text), select);
}

/* The share in words, or why there is none. */
function coveredText(covered) {
  if (!covered) return "no share covered: the layer adds nothing";
  const { scheme, share } = covered;
  if (share > LARGEST_SHARE) return "no share covered: the layer adds little to the logit";
  return `${Math.round(100 * share)}% covered (${PERSPECTIVES[scheme][0]})`;
}

/* What the share means, for the pointer. */
function coveredTitle(covered) {
  if (!covered || covered.share > LARGEST_SHARE) {
    return "The rest of the model gives this score, or nearly, without what the layer tells of the clip.";
  }
  const best = `The channels shown in ${PERSPECTIVES[covered.scheme][0]} make up this share of what the layer adds to ` +
    "the logit; in the other perspectives it is no larger.";
  return covered.share < 0.5 ? `${best} The greater part lies in channels that are not shown.` : best;
}

function entryLine({ page, number, name, covered }) {
  const { title, label } = facts.clips[page.clip];
  const classes = page.explained ? [`explained: ${page.explained}`] : [];
  if (label && label !== page.explained) classes.push(page.explained ? `labelled: ${label}` : label);
  const about = classes.map((text) => element("span", { class: "about class", title: text }, text));
  about.push(element("span", { class: "about" }, scoreText(page)));
  const meaning = coveredTitle(covered);
  about.push(element("span", { class: "about", title: meaning }, coveredText(covered), " ", rightMark(page)));
  return element("li", {}, element("a", { "data-clip-number": number, title: title || name }, named(name), about));
}

/* Scrolls a list, and not the page, to where the item is seen. */
function scrollWithin(list, item) {
  const [outer, inner] = [list, item].map((node) => node.getBoundingClientRect());
  if (inner.top >= outer.top && inner.bottom <= outer.bottom) return;
  list.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
}

/* Marks the clip that is shown, and lets the links keep the perspective. */
function markCurrent() {
  for (const link of document.querySelectorAll("#list a")) {
    const number = Number(link.dataset.clipNumber);
    link.href = linkTo({ clip: number, perspective: shown.scheme });
    if (shown.number === number) {
      link.setAttribute("aria-current", "page");
      link.tabIndex = 0;
      scrollWithin(link.closest("ol"), link);
    } else link.removeAttribute("aria-current");
  }
}
