/* The view of a clip: its picture, the perspectives with their cards, other methods, and how to read all this. */
const PERSPECTIVES = {
  square: ["Spot", "Spots in time and frequency that support the class: each outline has a time and a band."],
  time: ["Moment", "Moments that support the class, at any frequency: each outline spans all bands."],
  frequency: ["Band", "Frequency bands that support the class, at any time: each outline spans the whole clip."],
  "time-frequency": ["Moment and band", "A moment and a band that together support the class: an outline shows both."],
};

/* What the outlines of a perspective show. The spots of a layer of one row can be moments, and those of a layer of one
   column bands. */
function leadOf({ scheme, evidence }) {
  const boxes = evidence.flatMap((channel) => channel.boxes);
  if (scheme !== "square" || !boxes.length) return PERSPECTIVES[scheme][1];
  if (boxes.every((box) => !box.hertz)) return PERSPECTIVES.time[1];
  return PERSPECTIVES[boxes.every((box) => !box.seconds) ? "frequency" : "square"][1];
}

function heading(page) {
  const clip = facts.clips[page.clip];
  const verdict = ["Explained: ", strong(page.explained || "the only output"), `, ${scoreText(page)}. `];
  const first = page.scores[0];
  if (page.first && page.first !== first?.name) verdict.push("The model’s first choice is ", strong(page.first), ". ");
  else if (first?.explained && page.detects === false)
    verdict.push("It is the best class, but the model detects none: no probability is above 0.5. ");
  else if (first?.explained) verdict.push("It is the model’s first choice. ");
  else if (first) verdict.push("The model’s first choice is ", strong(first.name), `, ${scoreText(first)}. `);
  if (clip.label) verdict.push("The clip is labelled ", strong(clip.label), ".");
  const subject = page.detects === false ? "the best class is " : "the model is ";
  if (page.right !== null) verdict.push(" ", rightMark(page, subject));
  const title = named(clip.title || "Clip", "h2");
  const doubt = page.silence ? element("p", { class: "verdict" }, `Note: ${page.silence}.`) : null;
  return element("div", { class: "heading" }, title, element("p", { class: "verdict" }, verdict), doubt);
}

/* The logit of a class, and its probability where it is known. */
function scoreText({ score, probability }) {
  return `logit ${logit(score)}` + (probability === null ? "" : `, probability ${likely(probability)}`);
}

/* Whether the model's first choice is the class of the clip. */
function rightMark(page, before = "") {
  if (page.right === null) return null;
  const word = page.right ? "right" : "wrong";
  return element("span", { class: word }, before + word);
}

function query(page, perspective) {
  const clip = facts.clips[page.clip];
  const whole = soundButton("Play the clip", "", clip.sound, page.clip);
  const regions = perspective.evidence.map((channel, i) => outlined(channel, i, i + 1));
  return [
    spectrogram(page.clip, { regions, size: "large", about: "Spectrogram", whole }),
    element("div", { class: "below" }, whole, scale(clip)),
  ];
}

function tabs(page, choose) {
  const buttons = page.perspectives.map((perspective, i) => {
    const properties = { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": `panel-${i}` };
    return element("button", { ...properties, onclick: () => choose(i) }, PERSPECTIVES[perspective.scheme][0]);
  });
  const onkeydown = (event) => {
    const next = nextPlace(event.key, buttons.indexOf(document.activeElement), buttons.length);
    if (next === null) return;
    event.preventDefault();
    choose(next);
    buttons[next].focus();
  };
  return element("div", { role: "tablist", "aria-label": "Perspectives", onkeydown }, buttons);
}

/* What the cards below show, for readers who see such a page for the first time. */
function introduction(page, tabs = page.perspectives.length > 1) {
  const shown = page.perspectives.flatMap(({ evidence }) => evidence);
  const examples = shown.some(({ prototypes }) => prototypes.length);
  const lines = [
    "A channel is a feature that the model has learned. Each card shows one that supports the class: where it responds " +
      `in this clip${examples ? ", and the training clips in which it responds most" : ""}.`,
    ...(tabs ? ["The tabs look at the same clip in different ways."] : []),
  ];
  return [
    element("h3", {}, "What supports ", page.explained ? ["“", named(page.explained), "”"] : "the output"),
    element("p", { class: "lead" }, lines.join(" ")),
  ];
}

/* What a perspective shows, without the place that it is shown in. */
function perspectiveParts(page, perspective) {
  const [title] = PERSPECTIVES[perspective.scheme];
  const { evidence } = perspective;
  const none = element("p", {}, "No channel supports the class in this perspective.");
  return [
    element("h3", { class: "unseen printed" }, title),
    element("p", { class: "lead" }, leadOf(perspective)),
    evidence.length ? evidence.map((channel, i) => card(page, perspective, channel, i)) : none,
    waterfall(page, perspective),
  ];
}

/* The maps of other methods on this clip, beside the outline of the strongest channel. */
function comparison(page, perspective) {
  if (!page.maps.length) return [];
  const strongest = perspective.evidence[0];
  const regions = strongest ? [outlined(strongest)] : [];
  const maps = page.maps.map(({ name, picture }) => {
    const drawn = spectrogram(page.clip, { regions, picture, about: `Attribution map by ${name}` });
    return element("li", {}, element("p", { class: "caption" }, named(name)), drawn);
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
    ["Logit", "The model’s score of a class: the larger, the more the clip sounds to the model like this class."],
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
    ["Perspectives", `Each is a scheme of the tables and of the command line: ${schemesOf(page)}.`],
  ];
  if (page.exclusive !== null)
    lines.push([
      "Probability",
      page.exclusive
        ? "The softmax of the logits of all classes: they exclude each other, and their probabilities add up to 1."
        : "The sigmoid of the logit of a class: each class is present or not, whatever the others are.",
    ]);
  if (searched)
    lines.push([
      "Masking",
      "How much of the channel is lost when the region is masked; random: the mean of random places of the same " +
        "shape. For the clip also by how much the logit of the explained class falls.",
    ]);
  if (regions.some((region) => region.dashed))
    lines.push(["Dashed outline", "Masking a random place takes as much, or masking the region takes less than 1%."]);
  if (regions.some((region) => region.silent))
    lines.push(["Silence", "No level in the region is above the lowest of its clip, or 80 dB below the loudest."]);
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

/* The perspectives of a page with their schemes. */
const schemesOf = ({ perspectives }) =>
  perspectives.map(({ scheme }) => `${PERSPECTIVES[scheme][0]} is “${scheme}”`).join(", ");

/* Shows a clip in a perspective, and gives a function that turns to another perspective of the clip. Only the
   perspective that is looked at is drawn. */
function showClip(page, chosen) {
  const top = element("div", { class: "stage" });
  const strip = element("section", { class: "comparison", "aria-label": "Other methods" });
  const panels = page.perspectives.map((perspective, i) =>
    element("section", {
      role: "tabpanel",
      id: `panel-${i}`,
      "aria-labelledby": `tab-${i}`,
      "data-scheme": perspective.scheme,
      hidden: true,
    }),
  );
  const bar = tabs(page, (i) => {
    choose(i);
    location.hash = linkTo({ clip: facts.pages.indexOf(page) + 1, perspective: page.perspectives[i].scheme });
  });
  const choose = (i) => {
    if (panels[i].hidden === false) return;
    stop();
    [...bar.children].forEach((tab, k) => {
      tab.setAttribute("aria-selected", String(k === i));
      tab.tabIndex = k === i ? 0 : -1;
      panels[k].hidden = k !== i;
      panels[k].replaceChildren(...(k === i ? perspectiveParts(page, page.perspectives[i]) : []).flat());
    });
    top.replaceChildren(...query(page, page.perspectives[i]));
    strip.replaceChildren(...comparison(page, page.perspectives[i]));
    strip.hidden = !page.maps.length;
  };
  choose(chosen);
  const overview = element("div", { class: "overview" }, top, scores(page));
  document.getElementById("main").replaceChildren(heading(page), overview, ...introduction(page), bar, ...panels, strip, notes(page));
  return choose;
}
