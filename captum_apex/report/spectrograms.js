/* Spectrograms with ticks, outlines, numbers on the outlines, and a slider to seek with. */
const AT_END = 0.04; // a tick that is so near to an end of its axis, as a share of it, stands for the end
const LINE_WIDTH = 2; // of an outline, in pixels
const THIN = 0.06; // a region with a thinner box, as a share of a small picture, has its outline outside of it
const STRIPE = 2; // by how much an outline is wider than the next one that coincides with it, in pixels
const TAG = 0.062; // width of a tag with one number, as a share of the large picture
const TAG_MORE = 0.65; // width that each further number adds, in widths of one
const LINE = 1.5; // height of a tag, in its font size
const TAG_HEIGHTS = [0.094, 0.059]; // height of a tag, as a share of the lowest and of the highest large picture
const LONG = 10; // from this duration on, in seconds, a narrow region is shown enlarged
const NARROW = 0.12; // share of a clip that a narrow region covers at most
const AROUND = 2; // at least so many seconds are shown enlarged

/* `view` is the part of the picture that is shown, as shares of its width; `whole` is the button for the whole clip. */
function spectrogram(name, options) {
  const { regions = [], picture, size = "small", about = "", whole = null, map = null, view = [0, 1] } = options;
  const clip = facts.clips[name];
  const subject = `${about || "Spectrogram"} of ${clip.title || "a clip"}, ${short(clip.duration)} s.`;
  const alt = [subject, ...regions.map((region) => region.text)].join(" ");
  const image = element("img", { src: pictures.get(picture ?? clip.picture), alt });
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < image.clientWidth));
  const cursor = element("div", { class: "cursor", hidden: true });
  const over = map && element("img", { class: "map", src: pictures.get(map), alt: "", hidden: true });
  const [left, width] = [-view[0] / (view[1] - view[0]), 1 / (view[1] - view[0])];
  const style = { left: percent(left), width: percent(width) };
  const end = picture ? null : filled(clip);
  const sheet = element("div", { class: "sheet", style }, image, end, over, overlay(regions, size !== "large"), cursor, lens(options.lens));
  const frame = element("div", { class: "picture", "data-clip": name }, sheet);
  if (whole) frame.append((size === "large" ? seekSlider : seekArea)(name, clip, whole, view));
  const [across, up] = size === "large" ? [0.1, 0.1] : [0.25, 0.17];
  const times = view[1] - view[0] < 1 ? ticksIn(clip, view) : clip.seconds;
  return element(
    "div",
    { class: `spectrogram ${size}` },
    element("div", { class: "hertz", "aria-hidden": "true" }, frequencies(clip, up)),
    frame,
    element("div", { class: "seconds", "aria-hidden": "true" }, seconds(spaced(times, across))),
  );
}

/* A picture with the outline of one region; below it, the region enlarged where it is narrow in a long clip. */
function located(name, region, options) {
  const view = enlarged(facts.clips[name], region);
  const shown = spectrogram(name, { ...options, regions: [region], lens: view });
  if (!view) return [shown];
  const about = `${options.about || "Spectrogram"}, enlarged,`;
  const size = `strip ${options.size ?? ""}`;
  return [shown, spectrogram(name, { ...options, about, regions: [region], size, view })];
}

/* The part of a long clip around a narrow region, as shares of the picture; null where nothing is enlarged. */
function enlarged(clip, region) {
  if (clip.duration < LONG || region.boxes.some((box) => !box.seconds)) return null;
  const { start, end } = region.ends;
  if (end - start > NARROW * clip.duration) return null;
  const length = Math.max(AROUND, 3 * (end - start));
  const first = Math.min(Math.max((start + end - length) / 2, 0), clip.duration - length);
  return [first, first + length].map((second) => Math.min(Math.max(clip.start + clip.rate * second, 0), 1));
}

/* The part that is enlarged below. */
function lens(view) {
  if (!view) return null;
  return element("div", { class: "lens", style: { left: percent(view[0]), width: percent(view[1] - view[0]) } });
}

/* The part after the end of the sound, which the feature extractor or the classifier has filled. */
function filled(clip) {
  return clip.filled === null ? null : element("div", { class: "filled", style: { left: percent(clip.filled) } });
}

/* About four round seconds in a part of a clip. */
function ticksIn(clip, view) {
  const [first, last] = view.map((share) => (share - clip.start) / clip.rate);
  const rough = (last - first) / 4;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((factor) => factor * ten >= rough);
  const count = Math.floor(last / step) - Math.ceil(first / step) + 1;
  const values = Array.from({ length: Math.max(count, 0) }, (_, i) => (Math.ceil(first / step) + i) * step);
  return values.map((value) => ({
    value: Number(value.toPrecision(6)),
    at: (clip.start + clip.rate * value - view[0]) / (view[1] - view[0]),
  }));
}

/* The ticks of the frequency axis, and the ends where no tick is; the highest number has the unit. */
function frequencies(clip, apart) {
  const near = (one, two, distance) => Math.abs(one.at - two.at) < distance;
  const ends = clip.band
    .map((value, at) => ({ value, at }))
    .filter((end) => !clip.hertz.some((tick) => near(tick, end, AT_END)));
  const between = clip.hertz.filter((tick) => !ends.some((end) => near(tick, end, apart)));
  const ticks = [...spaced(between, apart), ...ends].sort((one, two) => one.at - two.at);
  return ticks.map(({ value, at }, i) => mark(hertz(value, i === ticks.length - 1), "bottom", at));
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

function overlay(regions, small) {
  const outsides = regions.map((region) => (small && isThin(region) ? outsideOf(region) : null));
  const widths = lineWidths(regions).map((width, i) => (outsides[i] ? 2 * width : width)); // half of it is seen
  const path = (kind, i, style) => {
    const clip = outsides[i] && `url(#${outsides[i].id})`;
    return drawing("path", { class: kind, d: regions[i].outline, style, "clip-path": clip });
  };
  const halos = regions.map((_, i) => path("halo", i, { "stroke-width": `${widths[i] + LINE_WIDTH}px` }));
  const lines = regions.map((region, i) => path("outline", i, stroke(region, widths[i])));
  const properties = { class: "overlay", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" };
  return [
    drawing("svg", properties, halos, lines, outsides), // all halos are below all lines, so that they hide none
    tags(regions),
  ];
}

const isThin = ({ thinnest }) => thinnest < THIN;

/* All around a region, so that its outline does not hide the little that is inside. */
let countOfOutsides = 0;
function outsideOf({ outline }) {
  const around = drawing("path", { d: `M-1-1H2V2H-1Z${outline}`, "clip-rule": "evenodd" });
  return drawing("clipPath", { id: `outside-${countOfOutsides++}` }, around);
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

/* What an outline shows: a region with its colour, its number and its description. */
function outlined(region, rank = 0, number = 0) {
  const name = number ? `Outline ${number}` : "Outlined";
  const silence = region.silent ? ["silence"] : [];
  const text = [`${name}: ${place(region)}`, ...silence, ...region.effect].join("; ") + ".";
  return { ...region, colour: colourOf(rank), number, text };
}

/* The regions' numbers, each on its box; regions with the same upper left corner share a tag. */
function tags(regions) {
  const placed = [];
  return grouped(regions.filter((region) => region.number)).map((group) => {
    const width = TAG * (1 + TAG_MORE * (group.length - 1));
    const tag = freePlace(group[0].tagged, width, placed);
    placed.push(tag);
    const top = `clamp(0px, ${percent(tag.y)} + ${LINE * tag.step}em, 100% - ${LINE}em)`;
    const numbers = group.map(({ number, colour }) => element("span", { style: { "--colour": colour } }, String(number)));
    const [way, length] = tag.stalk ?? ["", 0];
    const style = { left: percent(tag.x), top, "--stalk": `${LINE * length}em`, "--colour": group[0].colour };
    return element("span", { class: `tag ${way}`, "aria-hidden": "true", style }, numbers);
  });
}

/* The first place on a box where no other tag is; the nearest one above or below the box where all are taken. */
function freePlace(box, width, placed) {
  let place;
  for (place of placesOn(box, width)) if (!placed.some((other) => overlap(place, other))) break;
  return place;
}

/* Places of a tag: along the upper side of its box, down its left side, along its lower side, anywhere else where it
   touches the box, and away from it with a stalk. `step` is the distance of the upper end of the tag from `y`, in heights of a tag. */
function* placesOn([left, top, right, bottom], width) {
  const within = (x) => Math.min(Math.max(x, 0), 1 - width);
  const first = within(left);
  const along = Array.from({ length: Math.max(1, Math.floor((right - first) / width)) }, (_, i) => first + i * width);
  for (const x of along) yield { x, y: top, step: -1, width };
  for (let step = 0; top + (step + 1) * TAG_HEIGHTS[0] <= bottom; step++) yield { x: first, y: top, step, width };
  for (const x of along) yield { x, y: bottom, step: 0, width };
  const sides = [[top, -1], [top, 0], [bottom, -1], [bottom, 0]];
  for (let shift = 0; shift <= Math.max(width, right - left); shift += width / 8) {
    const beside = [left + shift, left - shift].filter((x) => x <= right && x >= left - width).map(within);
    for (const x of beside) for (const [y, step] of sides) yield { x, y, step, width };
  }
  for (let step = 1; step * TAG_HEIGHTS[1] < 1; step++) {
    const length = step * TAG_HEIGHTS[0];
    if (top >= length + TAG_HEIGHTS[0]) yield { x: first, y: top, step: -1 - step, width, stalk: ["down", step] };
    if (bottom + length + TAG_HEIGHTS[0] <= 1) yield { x: first, y: bottom, step, width, stalk: ["up", step] };
  }
}

/* Whether two tags overlap on the lowest or on the highest picture. */
function overlap(one, two) {
  if (one.x + one.width <= two.x + 1e-6 || two.x + two.width <= one.x + 1e-6) return false;
  return TAG_HEIGHTS.some((height) => {
    const [y, other] = [one, two].map((tag) => Math.min(Math.max(tag.y + tag.step * height, 0), 1 - height));
    return Math.abs(y - other) < 0.99 * height;
  });
}

/* Regions with the same corner, together. */
function grouped(regions) {
  const groups = new Map();
  for (const region of regions) {
    const corner = region.tagged.slice(0, 2).map((share) => share.toFixed(3)).join();
    groups.set(corner, [...(groups.get(corner) ?? []), region]);
  }
  return [...groups.values()];
}

function scale(clip) {
  const { span, colours } = facts.level;
  const levels = legend(colours, [`${fixed(-span, 0)} dB`, "0 dB"], "Level; 0 dB is the loudest point of this picture");
  if (clip.filled === null) return [levels];
  return [levels, element("p", { class: "legend" }, `Hatched: the sound has ended; ${clip.filled_text}.`)];
}

function legend(colours, ends, text) {
  const background = `linear-gradient(to right, ${colours.join(", ")})`;
  const bar = element("span", { class: "bar", style: { background } });
  const labelled = element("span", { class: "scale" }, ends[0], bar, ends[1]);
  return element("p", { class: "legend" }, element("span", {}, `${text}: `), labelled);
}
