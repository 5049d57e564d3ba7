/* The view of a channel: in which clips and classes it is among the evidence, how pure it is, its prototypes, and the
   name that the reader gives to it. */
const FIRST_CLIPS = 24; // so many clips are drawn before the reader asks for more
const uses = channelUses();

/* Every place in the evidence of all clips, by scheme and channel. */
function channelUses() {
  const found = new Map();
  facts.pages.forEach((page, number) => {
    for (const perspective of page.perspectives) {
      for (const evidence of perspective.evidence) {
        const key = `${perspective.scheme} ${evidence.channel}`;
        if (!found.has(key)) found.set(key, []);
        found.get(key).push({ page, number: number + 1, perspective, evidence });
      }
    }
  });
  for (const list of found.values()) list.sort((one, two) => two.evidence.contribution - one.evidence.contribution);
  return found;
}

function showChannel(scheme, channel) {
  const found = uses.get(`${scheme} ${channel}`);
  const { perspective } = found[0];
  const all = facts.pages.filter((page) => page.perspectives.some((each) => each.scheme === scheme)).length;
  const clips = new Set(found.map(({ page }) => page.clip)).size;
  const lead = `${PERSPECTIVES[scheme][0]} perspective. Among the strongest channels of ${found.length} of ` +
    `${counted(all, "explanation")}, in ${counted(clips, "clip")}.`;
  const title = element("h2", { id: "channel-title" }, `Channel ${channel}`);
  document.getElementById("main").replaceChildren(
    element("div", { class: "heading" }, title, element("p", { class: "verdict" }, lead)),
    nameForm(perspective, channel),
    classTable(found),
    ...prototypesOf(found, channel),
    ...clipsOf(found, channel),
  );
}

function nameForm(perspective, channel) {
  const entry = entryOf(perspective, channel);
  const name = element("input", { id: "channel-name", type: "text", value: entry.name, maxlength: 80 });
  const note = element("textarea", { id: "channel-note", rows: 2 }, entry.note);
  const keep = () => rename(perspective, channel, { name: name.value.trim(), note: note.value.trim() });
  name.addEventListener("input", keep);
  note.addEventListener("input", keep);
  return element(
    "div",
    { class: "naming card" },
    element("div", {}, element("label", { for: "channel-name" }, "Your name for it"), name),
    element("div", {}, element("label", { for: "channel-note" }, "Note"), note),
    element(
      "div",
      { class: "buttons" },
      namesTools(),
      element("p", { class: "hint" }, "Names stay in this browser for every page with this basis. They can be exported."),
    ),
  );
}

/* How often the channel is among the evidence for each class, what it adds, and how pure it is there. */
function classTable(found) {
  const classes = new Map();
  for (const { page, evidence } of found) {
    const name = page.explained || "the only output";
    classes.set(name, [...(classes.get(name) ?? []), evidence]);
  }
  const mean = (list, of) => list.reduce((sum, each) => sum + of(each), 0) / list.length;
  const rows = [...classes].map(([text, list]) => ({ text, list }));
  rows.sort((one, two) => two.list.length - one.list.length || one.text.localeCompare(two.text));
  const most = rows[0].list.length;
  const line = ({ text, list }) =>
    element(
      "tr",
      {},
      rowHeading({ text }),
      element(
        "td",
        { class: "track", "aria-hidden": "true" },
        element("span", { class: "bar towards", style: { left: "0", width: percent(list.length / most) } }),
      ),
      element("td", { class: "figure" }, String(list.length)),
      element("td", { class: "figure" }, signed(mean(list, (each) => each.contribution))),
      element("td", { class: "figure" }, fixed(mean(list, (each) => each.purity))),
    );
  return element(
    "table",
    { class: "chart classes" },
    element("caption", {}, "Classes that it supports, with means over their clips"),
    tableHead(["Class", "", "Clips", "Adds", "Purity"]),
    element("tbody", {}, rows.map(line)),
  );
}

function prototypesOf(found, channel) {
  return [1, -1].flatMap((side) => {
    const use = found.find(({ evidence }) => evidence.side === side && evidence.prototypes.length);
    if (!use) return [];
    const kind = side < 0 ? "Prototypes of its negative side" : "Prototypes";
    const name = `channel ${channel}`;
    const shown = use.evidence.prototypes.map((each, i) => example(each, 0, `prototype ${i + 1} of ${name}`));
    return [element("h3", {}, kind), roving(element("ul", { class: "prototypes wide" }, shown))];
  });
}

function clipsOf(found, channel) {
  const list = element("ol", { class: "prototypes wide" });
  const more = element("button", { type: "button", class: "switch" });
  const add = (count) => {
    const shown = list.children.length;
    list.append(...found.slice(shown, shown + count).map((use) => useOf(use, channel)));
    roving(list);
    more.hidden = list.children.length === found.length;
    more.textContent = `Show ${Math.min(found.length - list.children.length, FIRST_CLIPS)} more`;
  };
  more.addEventListener("click", () => add(FIRST_CLIPS));
  add(FIRST_CLIPS);
  return [element("h3", {}, "Clips in which it supports the class, the largest contribution first"), list, more];
}

function useOf({ page, number, perspective, evidence }, channel) {
  const clip = facts.clips[page.clip];
  const title = clip.title || `Clip ${number}`;
  const about = `of channel ${channel} in clip ${number}, ${title}`;
  const whole = soundButton("clip", about, clip.sound, page.clip);
  const region = soundButton("region", about, evidence.region, page.clip);
  const href = linkTo({ clip: number, perspective: perspective.scheme });
  const label = `${title}, clip ${number}, explained: ${page.explained || "the only output"}`;
  const link = element("a", { href, title, "aria-label": label }, named(clip.file || title));
  const explained = page.explained
    ? element("p", { class: "clamped", title: page.explained }, "for ", named(page.explained))
    : null;
  return element(
    "li",
    {},
    element(
      "div",
      { class: "caption" },
      element("p", { class: "clamped" }, link),
      explained,
      element("p", {}, `adds ${signed(evidence.contribution)} · purity ${fixed(evidence.purity)}`),
      placeLine(evidence),
    ),
    element("div", {}, located(page.clip, outlined(evidence, 0), { whole, map: null })),
    element("div", { class: "sounds" }, whole, region, evidence.silent ? element("span", {}, "silence") : null),
  );
}
