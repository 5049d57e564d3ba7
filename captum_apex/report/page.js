const PERSPECTIVES = {
  square: ["Spot", "The single spot in time and frequency that supports the class: a short event in one band."],
  time: ["Moment", "The moment that supports the class, at any frequency: each outline spans all bands."],
  frequency: ["Band", "The frequency band that supports the class, at any time: each outline spans the whole clip."],
  "time-frequency": ["Moment and band", "The moment and band that together support the class: an outline shows both."],
};
const LINE_WIDTH = 2; // of an outline, in pixels
const STRIPE = 2; // by how much an outline is wider than the next one that coincides with it, in pixels
const TAG = 0.065; // width of a tag with one number, as a share of the large picture
const LINE = 1.5; // height of a tag, in its font size
const TAG_HEIGHTS = [0.094, 0.059]; // height of a tag, as a share of the lowest and of the highest large picture
let scheme = null; // the chosen perspective, which stays when another clip is chosen

/* Pictures */

function spectrogram(name, { regions = [], picture, size = "small", about = "", whole = null, map = null }) {
  const clip = facts.clips[name];
  const subject = `${about || "Spectrogram"} of ${clip.title || "a clip"}, ${short(clip.duration)} s.`;
  const alt = [subject, ...regions.map((region) => region.text)].join(" ");
  const image = element("img", { src: facts.pictures[picture ?? clip.picture], alt });
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < image.clientWidth));
  const cursor = element("div", { class: "cursor", hidden: true });
  const over = map && element("img", { class: "map", src: facts.pictures[map], alt: "", hidden: true });
  const frame = element("div", { class: "picture", "data-clip": name }, image, over, overlay(regions), cursor);
  if (whole) seekable(frame, whole, clip, name);
  const [across, up] = size === "large" ? [0.1, 0.1] : [0.25, 0.17];
  const frequencies = spaced(clip.hertz, up).map((tick) => mark(hertz(tick.value), "bottom", tick.at));
  return element(
    "div",
    { class: `spectrogram ${size}` },
    element("div", { class: "hertz", "aria-hidden": "true" }, frequencies),
    frame,
    element("div", { class: "unit", "aria-hidden": "true" }, "Hz"),
    element("div", { class: "seconds", "aria-hidden": "true" }, seconds(spaced(clip.seconds, across))),
  );
}

function seconds(ticks) {
  return ticks.map((tick, i) => mark(short(tick.value) + (i === ticks.length - 1 ? " s" : ""), "left", tick.at));
}

function mark(text, side, at) {
  return element("span", { style: { [side]: percent(at) } }, text);
}

function spaced(ticks, apart) {
  const selected = [];
  for (const tick of ticks) if (!selected.length || tick.at - selected.at(-1).at >= apart - 1e-6) selected.push(tick);
  return selected;
}

function overlay(regions) {
  const widths = lineWidths(regions);
  const halos = regions.map(({ outline }, i) =>
    drawing("path", { class: "halo", d: outline, style: { "stroke-width": `${widths[i] + LINE_WIDTH}px` } }),
  );
  const lines = regions.map((region, i) =>
    drawing("path", { class: "outline", d: region.outline, style: stroke(region, widths[i]) }),
  );
  const properties = { class: "overlay", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" };
  return [
    drawing("svg", properties, halos, lines), // all halos are below all lines, so that they hide none
    tags(regions),
  ];
}

/* An outline is wider than each later one that coincides with it, so that all are visible. */
function lineWidths(regions) {
  const same = (region, i) => regions.slice(i + 1).filter((other) => other.outline === region.outline).length;
  return regions.map((region, i) => LINE_WIDTH + STRIPE * same(region, i));
}

/* The style of an outline; dashes mean a region that is no better than a random place. */
function stroke({ colour, dashed }, width) {
  const lengths = dashed ? facts.dashes.map((length) => length * LINE_WIDTH) : [];
  return { stroke: colour, "stroke-width": `${width}px`, "stroke-dasharray": lengths.join(" ") || "none" };
}

const colourOf = (rank) => facts.lines[rank % facts.lines.length];

/*
 * The regions' numbers above their upper left corners. Regions with the same corner share a tag; a tag moves down by
 * its height where another tag is already.
 */
function tags(regions) {
  const placed = [];
  return grouped(regions.filter((region) => region.number)).map((group) => {
    const width = (TAG * (group.length + 1)) / 2;
    const [x, y] = [Math.min(group[0].corner[0], 1 - width), group[0].corner[1]];
    const tag = { x, y, width, steps: 0 };
    while (placed.some((other) => overlap(tag, other))) tag.steps += 1;
    placed.push(tag);
    const top = `calc(max(0px, ${percent(y)} - ${LINE}em) + ${tag.steps * LINE}em)`;
    const numbers = group.map(({ number, colour }) => element("span", { style: { color: colour } }, String(number)));
    return element("span", { class: "tag group", "aria-hidden": "true", style: { left: percent(x), top } }, numbers);
  });
}

/* Whether two tags overlap on the lowest or on the highest picture. */
function overlap(one, two) {
  if (one.x + one.width <= two.x || two.x + two.width <= one.x) return false;
  return TAG_HEIGHTS.some((height) => {
    const [y, other] = [one, two].map((tag) => Math.max(tag.y, height) + tag.steps * height);
    return Math.abs(y - other) < 0.99 * height;
  });
}

/* Regions with the same corner, together. */
function grouped(regions) {
  const groups = new Map();
  for (const region of regions) {
    const corner = region.corner.map((share) => share.toFixed(3)).join();
    groups.set(corner, [...(groups.get(corner) ?? []), region]);
  }
  return [...groups.values()];
}

/* A click on the picture plays the clip from there; the keyboard has the button. */
function seekable(frame, button, clip, name) {
  frame.classList.add("seekable");
  frame.title = "Play from here";
  frame.addEventListener("click", (event) => {
    const box = frame.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width - clip.start) / clip.rate;
    start(button, clip.sound, name, Math.min(Math.max(at, 0), clip.duration));
  });
}

function place(boxes) {
  return boxes
    .map((box) => {
      const time = box.seconds && `${fixed(box.seconds[0])}–${fixed(box.seconds[1])} s`;
      const band = box.hertz && `${Math.round(box.hertz[0])}–${Math.round(box.hertz[1])} Hz`;
      return [time, band].filter(Boolean).join(", ") || "all of the clip";
    })
    .join(" and ");
}

function outlined(region, rank = 0, number = 0) {
  const name = number ? `Outline ${number}` : "Outlined";
  const text = [`${name}: ${place(region.boxes)}`, ...region.effect].join("; ") + ".";
  return { ...region, colour: colourOf(rank), number, text };
}

function scale() {
  const { low, high, colours } = facts.level;
  return legend(colours, [`${fixed(low, 0)} dB`, `${fixed(high, 0)} dB`], "Level in all spectrograms");
}

function legend(colours, ends, text) {
  const background = `linear-gradient(to right, ${colours.join(", ")})`;
  const bar = element("span", { class: "bar", style: { background } });
  const labelled = element("span", { class: "scale" }, ends[0], bar, ends[1]);
  return element("p", { class: "legend" }, element("span", {}, `${text}: `), labelled);
}

/* The clip */

function heading(page) {
  const clip = facts.clips[page.clip];
  const first = page.scores[0];
  const verdict = ["Explained: ", strong(page.explained || "the only output"), `, logit ${logit(page.score)}. `];
  if (first?.explained) verdict.push("It is the model’s first choice. ");
  else if (first) verdict.push("The model’s first choice is ", strong(first.name), `, logit ${logit(first.score)}. `);
  if (clip.label) verdict.push("The clip is labelled ", strong(clip.label), ".");
  return [element("h2", { class: "name" }, clip.title || "Clip"), element("p", { class: "verdict" }, verdict)];
}

function strong(text) {
  return element("strong", { class: "name" }, text);
}

function query(page, perspective) {
  const clip = facts.clips[page.clip];
  const whole = soundButton("Play the clip", "Play the whole clip", clip.sound, page.clip);
  const regions = perspective.evidence.map((channel, i) => outlined(channel, i, i + 1));
  return [
    spectrogram(page.clip, { regions, size: "large", about: "Spectrogram", whole }),
    element("div", { class: "below" }, whole, scale()),
  ];
}

function tabs(page, choose) {
  const buttons = page.perspectives.map((perspective, i) => {
    const properties = { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": `panel-${i}` };
    return element("button", { ...properties, onclick: () => choose(i) }, PERSPECTIVES[perspective.scheme][0]);
  });
  const steps = { ArrowRight: (i) => i + 1, ArrowLeft: (i) => i - 1, Home: () => 0, End: () => -1 };
  const onkeydown = (event) => {
    const next = steps[event.key]?.(buttons.indexOf(document.activeElement));
    if (next === undefined) return;
    event.preventDefault();
    const i = (next + buttons.length) % buttons.length;
    choose(i);
    buttons[i].focus();
  };
  return element("div", { role: "tablist", "aria-label": "Perspectives", onkeydown }, buttons);
}

function panel(page, perspective, i) {
  const [title, text] = PERSPECTIVES[perspective.scheme];
  const { evidence, scheme } = perspective;
  const none = element("p", {}, "No channel supports the class in this perspective.");
  return element(
    "section",
    { role: "tabpanel", id: `panel-${i}`, "aria-labelledby": `tab-${i}`, tabindex: "0", "data-scheme": scheme },
    element("h3", { class: "printed" }, title),
    element("p", { class: "lead" }, text),
    evidence.length ? evidence.map((channel, rank) => card(page, channel, rank)) : none,
    waterfall(page, perspective),
  );
}

function card(page, evidence, rank) {
  const name = `channel ${evidence.channel}`;
  const clip = facts.clips[page.clip];
  const whole = soundButton("clip", "Play the whole clip", clip.sound, page.clip);
  const about = [
    `contribution ${signed(evidence.contribution)}`,
    `purity ${fixed(evidence.purity)}`,
    place(evidence.boxes),
  ];
  if (evidence.side < 0) about.push("supports the class by its negative activation");
  const description = element("span", { class: "about" }, about.join(" · "));
  return element(
    "article",
    { class: "card", "aria-label": `Channel ${evidence.channel}` },
    element("h4", {}, number(rank), ` Channel ${evidence.channel}`, description),
    element(
      "div",
      { class: "pair" },
      element(
        "div",
        { class: "query" },
        element("p", { class: "caption" }, "In this clip"),
        spectrogram(page.clip, { regions: [outlined(evidence, rank)], size: "middle", whole, map: evidence.map }),
        effect(evidence),
        element(
          "div",
          { class: "sounds" },
          whole,
          soundButton("region", `Play the region of ${name}`, evidence.region, page.clip),
          soundButton("without it", `Play the clip without the region of ${name}`, evidence.without, page.clip),
          mapSwitch(evidence, name),
        ),
        mapLegend(evidence),
      ),
      evidence.prototypes.length ? examples(evidence, rank, name) : null,
    ),
  );
}

/* What masking the region takes away. */
function effect(region) {
  return region.effect.length ? element("p", { class: "effect" }, region.effect.join(" · ")) : null;
}

/* Lays the maps of a channel over the pictures of its card. */
function mapSwitch(evidence, name) {
  if (![evidence, ...evidence.prototypes].some((region) => region.map)) return null;
  const properties = { type: "button", class: "switch", "aria-pressed": "false", "aria-label": `Map of ${name}` };
  const onclick = ({ currentTarget }) => {
    const card = currentTarget.closest(".card");
    const on = card.classList.toggle("mapped");
    currentTarget.setAttribute("aria-pressed", String(on));
    for (const node of card.querySelectorAll(".map, .signed")) node.hidden = !on;
  };
  return element("button", { ...properties, onclick }, "map");
}

function mapLegend(evidence) {
  if (![evidence, ...evidence.prototypes].some((region) => region.map)) return null;
  const bar = legend(facts.signed, ["takes from it", "adds to it"], "Map of the channel, each on its own scale");
  return element("div", { class: "signed", hidden: true }, bar);
}

function examples(evidence, rank, channel) {
  return element(
    "div",
    { class: "examples" },
    element("p", { class: "caption" }, "Prototypes: the training clips that activate it most"),
    element("ul", { class: "prototypes" }, evidence.prototypes.map((prototype) => example(prototype, rank, channel))),
  );
}

function number(rank) {
  const properties = { class: "tag still", "aria-hidden": "true", style: { "--colour": colourOf(rank) } };
  return element("span", properties, String(rank + 1));
}

function example(prototype, rank, channel) {
  const clip = facts.clips[prototype.clip];
  const name = prototype.class || clip.title || `clip ${prototype.index}`;
  const whole = soundButton("clip", `Play the prototype ${name}`, clip.sound, prototype.clip);
  const description = `Play the region of the prototype ${name}`;
  const region = soundButton("region", description, prototype.region, prototype.clip);
  const about = `Prototype of ${channel}, ${name}: spectrogram`;
  return element(
    "li",
    {},
    element("p", { class: "caption" }, strong(name), ` · purity ${fixed(prototype.purity)}`),
    spectrogram(prototype.clip, { regions: [outlined(prototype, rank)], about, whole, map: prototype.map }),
    effect(prototype),
    element("div", { class: "sounds" }, whole, region),
  );
}

/* Numbers */

function waterfall(page, perspective) {
  const total = (text, value) => ({ text, from: 0, to: value, kind: "total", figure: logit(value) });
  const rows = [total("without the layer", perspective.before)];
  const add = (text, value) => {
    const from = rows.at(-1).to;
    rows.push({ text, from, to: from + value, kind: value < 0 ? "against" : "towards", figure: signed(value) });
  };
  perspective.evidence.forEach((channel, i) => add(`${i + 1} · channel ${channel.channel}`, channel.contribution));
  perspective.remainders.forEach(({ name, value }) => add(name, value));
  rows.push(total("logit", perspective.score));
  const explained = page.explained ? ` of “${page.explained}”` : "";
  return chart(rows, `From the logit without the layer to the logit${explained}`, "waterfall");
}

function scores(page) {
  if (!page.scores.length) return null;
  const rows = page.scores.map((row) => ({
    text: row.name,
    before: `${row.rank}. `,
    from: 0,
    to: row.score,
    kind: row.explained ? "towards" : "total",
    figure: logit(row.score),
    marked: row.explained,
  }));
  return chart(rows, "Highest logits, the explained class in bold", "scores");
}

/* A table with a bar from `from` to `to` in each row, all on one scale. */
function chart(rows, title, kind) {
  const ends = rows.flatMap((row) => [row.from, row.to]);
  const low = Math.min(0, ...ends);
  const span = Math.max(0, ...ends) - low || 1;
  const at = (value) => percent((value - low) / span);
  const line = (row) => {
    const mark = row.marked ? element("span", { class: "unseen" }, ", explained") : null;
    const style = { left: at(Math.min(row.from, row.to)), width: percent(Math.abs(row.to - row.from) / span) };
    return element(
      "tr",
      { class: row.marked ? "marked" : null },
      element("th", { scope: "row" }, row.before ?? "", element("span", { class: "name" }, row.text), mark),
      element(
        "td",
        { class: "track", "aria-hidden": "true" },
        element("span", { class: "zero", style: { left: at(0) } }),
        element("span", { class: `bar ${row.kind}`, style }),
      ),
      element("td", { class: "figure" }, row.figure),
    );
  };
  const body = element("tbody", {}, rows.map(line));
  return element("table", { class: `chart ${kind}` }, element("caption", {}, title), body);
}

/* Other maps */

function comparison(page, perspective) {
  if (!page.maps.length) return null;
  const [strongest] = perspective.evidence;
  const regions = strongest ? [outlined(strongest)] : [];
  const maps = page.maps.map(({ name, picture }) => {
    const drawn = spectrogram(page.clip, { regions, picture, about: `Attribution map by ${name}` });
    return element("li", {}, element("p", { class: "caption name" }, name), drawn);
  });
  const lead = strongest && `The outline is the region of channel ${strongest.channel}, the strongest one above.`;
  return [
    element("h3", {}, "Other methods on the same clip"),
    element("p", { class: "lead" }, lead ?? ""),
    element("ul", { class: "prototypes maps" }, maps),
    legend(facts.signed, ["negative", "positive"], "Attribution, each map on its own scale, zero in the middle"),
  ];
}

function notes(page) {
  const regions = page.perspectives.flatMap(({ evidence }) => evidence.flatMap((e) => [e, ...e.prototypes]));
  const searched = regions.some((region) => region.effect.length);
  const lines = [
    [
      "Contribution",
      "What a channel adds to the logit of the explained class. The logit without the layer and the contributions of " +
        "all channels add up to the logit; a difference is listed as unexplained.",
    ],
    [
      "Purity",
      "How much of the activation at the channel’s strongest cell belongs to this channel: 1 where no other is active.",
    ],
    ["Prototypes", "The training clips that activate the channel most. The outline is the place where they do."],
  ];
  if (searched)
    lines.push([
      "Masking",
      "How much of the channel is lost when the region is masked; random: when random places of the same shape are " +
        "masked. For the clip also by how much the logit of the explained class falls.",
    ]);
  if (regions.some((region) => region.dashed))
    lines.push(["Dashed outline", "The region is no better than a random place."]);
  const terms = lines.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text)));
  const careful = element(
    "p",
    { class: "careful" },
    element("strong", {}, "Be careful. "),
    searched ? "" : "A region is a cell of the layer’s grid. The cell depends on a larger part of the clip, so the " +
      "sound that activates it can lie beside the outline. ",
    "The sound of a region is what lies inside the outline. The model was " +
      "given neither this sound nor the clip without it.",
  );
  const title = element("h3", {}, "How to read this");
  return element("section", { class: "notes" }, title, element("dl", {}, terms), careful);
}

/* The page */

function showClip(page) {
  stop();
  const top = element("div", { class: "stage" });
  const strip = element("section", { class: "comparison" });
  const panels = page.perspectives.map((perspective, i) => panel(page, perspective, i));
  const bar = tabs(page, (i) => choose(i));
  const choose = (chosen) => {
    stop();
    scheme = page.perspectives[chosen].scheme;
    [...bar.children].forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.tabIndex = i === chosen ? 0 : -1;
      panels[i].hidden = i !== chosen;
    });
    top.replaceChildren(...query(page, page.perspectives[chosen]));
    strip.replaceChildren(...(comparison(page, page.perspectives[chosen]) ?? []));
  };
  const known = page.perspectives.findIndex((perspective) => perspective.scheme === scheme);
  choose(Math.max(known, 0));
  const overview = element("div", { class: "overview" }, top, scores(page));
  document.getElementById("main").replaceChildren(...heading(page), overview, bar, ...panels, strip, notes(page));
}

function list() {
  const nav = document.getElementById("list");
  nav.hidden = facts.pages.length < 2;
  const entries = facts.pages.map((page, i) => {
    const clip = facts.clips[page.clip];
    const about = element("span", { class: "about name" }, page.explained ? `explained: ${page.explained}` : "");
    const name = element("span", { class: "name" }, clip.title || `Clip ${i + 1}`);
    return element("li", {}, element("a", { href: `#${i + 1}` }, name, about));
  });
  nav.replaceChildren(element("ol", {}, entries));
}

function turnTo(number, moved) {
  const chosen = facts.pages[number - 1] ? number - 1 : 0;
  document.querySelectorAll("#list a").forEach((link, i) => {
    if (i === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  showClip(facts.pages[chosen]);
  if (!moved) return;
  document.getElementById("main").focus({ preventScroll: true });
  scrollTo(0, 0);
}

list();
turnTo(Number(location.hash.slice(1)), false);
addEventListener("hashchange", () => location.hash !== "#main" && turnTo(Number(location.hash.slice(1)), true));
