/* A card for each channel of the evidence: its region in the clip, and its prototypes. */
const HALF_A_SECOND = 0.5; // before and after a region

function card(page, perspective, evidence, rank) {
  const name = `channel ${evidence.channel}`;
  const clip = facts.clips[page.clip];
  const side = evidence.side < 0 ? " · by a negative activation" : "";
  const about = `adds ${signed(evidence.contribution)} to the logit · purity ${fixed(evidence.purity)}${side}`;
  const whole = soundButton("clip", `with the region of ${name}`, clip.sound, page.clip);
  const shown = located(page.clip, outlined(evidence, rank), { size: "middle", whole, map: evidence.map });
  return element(
    "article",
    { class: "card", "aria-label": `Channel ${evidence.channel}` },
    element(
      "h4",
      {},
      tagOf(rank),
      channelLink(perspective, evidence.channel),
      element("span", { class: "about" }, about),
    ),
    element(
      "div",
      { class: "pair" },
      element(
        "div",
        { class: "query" },
        whereInClip(evidence, rank),
        shown,
        effect(evidence, masking(evidence)),
        firesAt(evidence),
        cardSounds(page, evidence, name, whole),
        mapLegend(evidence),
      ),
      evidence.prototypes.length ? examples(evidence, rank, name) : null,
    ),
  );
}

/* The channel with the name that the reader has given to it; leads to the view of the channel. */
function channelLink(perspective, channel) {
  const given = nameOf(perspective, channel);
  const href = linkTo({ perspective: perspective.scheme, channel });
  return element("a", { class: "channel", href }, `Channel ${channel}`, given ? ` “${given}”` : null);
}

function cardSounds(page, evidence, name, whole) {
  const clip = facts.clips[page.clip];
  const buttons = [
    whole,
    soundButton("region", `of ${name}`, evidence.region, page.clip),
    around(clip, page.clip, evidence, name),
    soundButton("without it", `(the clip without the region of ${name})`, evidence.without, page.clip),
    mapSwitch(evidence, name),
  ].filter(Boolean);
  const silence = evidence.silent ? element("p", { class: "silence" }, "The region is silence.") : null;
  if (!buttons.length) return silence;
  const label = `Sounds of ${name}`;
  return [roving(element("div", { class: "sounds", role: "toolbar", "aria-label": label }, buttons)), silence];
}

/* The clip from half a second before a region to half a second after it. */
function around(clip, name, region, about) {
  if (region.silent || region.boxes.some((box) => !box.seconds)) return null;
  const from = Math.max(region.ends.start - HALF_A_SECOND, 0);
  const until = Math.min(region.ends.end + HALF_A_SECOND, clip.duration);
  return soundButton("± 0.5 s", `around the region of ${about}`, clip.sound, name, { from, until });
}

/* The places of the region in the clip; several have a line each, in the order of time. Without a search for the region,
   it is the cell in which the channel has its peak. */
function whereInClip(evidence, rank) {
  const where = `In this clip${evidence.masking ? "" : ", peak cell"}`;
  if (evidence.boxes.length < 2) return element("p", { class: "caption" }, `${where}: ${place(evidence)}`);
  const lines = places(evidence).map((text) => element("li", {}, tagOf(rank), text));
  const count = element("p", {}, `${where}, ${evidence.boxes.length} places:`);
  return element("div", { class: "caption" }, count, element("ul", { class: "places" }, lines));
}

/* Where the channel is stronger than in its region, although it counts less for the score there. */
function firesAt({ elsewhere }) {
  return elsewhere.length ? element("p", { class: "effect" }, `It fires at ${place({ boxes: elsewhere })}`) : null;
}

/* What masking the region takes away. */
function effect(region, lines = region.effect) {
  return lines.length ? element("p", { class: "effect" }, lines.join(" · ")) : null;
}

/* The same of a region of the clip, in a sentence. */
function masking({ masking: effect }) {
  if (!effect) return [];
  const share = (value) => (value >= 0.005 && value < 0.01 ? "<1%" : `${fixed(100 * value, 0)}%`); // as in Python
  const random = effect.random === null ? "" : `, a random place ${share(effect.random)} on average`;
  const lines = [`Masking the region takes ${share(effect.channel)} of the channel${random}`];
  if (effect.score !== null) {
    lines.push(`the logit ${effect.score < 0 ? "rises" : "falls"} by ${logit(Math.abs(effect.score))}`);
  }
  return effect.doubts ? [...lines, ...effect.doubts.split(", ")] : lines;
}

/* Lays the maps of a channel over the pictures of its card. */
function mapSwitch(evidence, name) {
  if (![evidence, ...evidence.prototypes].some((region) => region.map)) return null;
  const onclick = ({ currentTarget }) => {
    const card = currentTarget.closest(".card");
    const on = card.classList.toggle("mapped");
    currentTarget.setAttribute("aria-pressed", String(on));
    for (const node of card.querySelectorAll(".map, .signed")) node.hidden = !on;
  };
  return element(
    "button",
    { type: "button", class: "switch", "aria-pressed": "false", onclick },
    element("span", {}, "heat map", unseen(` of ${name}`)),
  );
}

function mapLegend(evidence) {
  if (![evidence, ...evidence.prototypes].some((region) => region.map)) return null;
  const bar = legend(facts.signed, ["takes from it", "adds to it"], "Map of the channel, each on its own scale");
  return element("div", { class: "signed", hidden: true }, bar);
}

function examples(evidence, rank, name) {
  const shown = evidence.prototypes.map((prototype, i) => example(prototype, rank, `prototype ${i + 1} of ${name}`));
  const cells = evidence.prototypes.every(({ masking }) => !masking) ? ", each with its peak cell" : "";
  return element(
    "div",
    { class: "examples" },
    element("p", { class: "caption" }, `Prototypes: the training clips that activate it most${cells}`),
    roving(element("ul", { class: "prototypes" }, shown)),
  );
}

function tagOf(rank) {
  const number = element("span", { style: { "--colour": colourOf(rank) } }, String(rank + 1));
  return element("span", { class: "tag still", "aria-hidden": "true" }, number);
}

function example(prototype, rank, name) {
  const clip = facts.clips[prototype.clip];
  const title = prototype.class || clip.title || `clip ${prototype.index}`;
  const about = `${name}, ${title}`;
  const whole = soundButton("clip", `of ${about}`, clip.sound, prototype.clip);
  const region = soundButton("region", `of ${about}`, prototype.region, prototype.clip);
  const picture = `${name[0].toUpperCase()}${name.slice(1)}, ${title}: spectrogram`;
  return element(
    "li",
    {},
    element(
      "div",
      { class: "caption" },
      element("p", { class: "clamped", title }, strong(title)),
      clip.file && clip.file !== title ? element("p", { class: "file", title: clip.name }, named(clip.file)) : null,
      placeLine(prototype),
      element("p", {}, `purity ${fixed(prototype.purity)}`),
    ),
    element("div", {}, located(prototype.clip, outlined(prototype, rank), { about: picture, whole, map: prototype.map })),
    element(
      "div",
      {},
      effect(prototype),
      element("div", { class: "sounds" }, whole, region, prototype.silent ? element("span", {}, "silence") : null),
    ),
  );
}

/* The first place of a region; the line breaks only between its time, its band and the number of other places. */
function placeLine(region) {
  const [first, ...others] = places(region);
  const pieces = [...first.split(/(?<=,) /), ...(others.length ? [`and ${counted(others.length, "more place")}`] : [])];
  return element(
    "p",
    { class: "place", title: others.length ? place(region) : null },
    pieces.flatMap((piece) => [element("span", {}, piece), " "]),
  );
}
