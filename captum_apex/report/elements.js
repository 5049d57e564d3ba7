"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);

/* The pictures are in the part for browsers without scripts, so that the file holds each of them once. */
const pictures = new Map(
  [...document.getElementById("plain").textContent.matchAll(/id="picture-(\w+)" src=.([^"]+)"/g)].map(
    ([, name, source]) => [name, source],
  ),
);

/* Texts always become text nodes and attributes, never markup. */
function element(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function drawing(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "style") for (const [key, setting] of Object.entries(value)) node.style.setProperty(key, setting);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null));
  return node;
}

/* A name from a file or a class, which may be long: it breaks behind its marks before it breaks inside of a word, and
   not before the ending of a file's name. */
function named(text, tag = "span") {
  const pieces = text.split(/(?<=[_\-./\\,;:@+])(?!\w{1,4}$)/);
  return element(tag, { class: "name" }, pieces.flatMap((piece, i) => (i ? [element("wbr"), piece] : [piece])));
}

const strong = (text) => named(text, "strong");

/* A text for screen readers only. */
const unseen = (text) => element("span", { class: "unseen" }, text);

function fixed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? "−" + text : text;
}

/* A time in seconds, with digits by the length of the clips. */
const timed = (value) => fixed(value, facts.digits);

/* A logit or a contribution to one: two digits after the point, up to four for small values. */
function logit(value) {
  const first = value ? -Math.floor(Math.log10(Math.abs(value))) : 0;
  return fixed(value, Math.min(Math.max(first + 1, 2), 4));
}

function signed(value) {
  const text = logit(value);
  return text.startsWith("−") ? text : "+" + text;
}

/* A probability with two digits, which is 0 or 1 for none. */
function likely(value) {
  if (value < 0.005) return "<0.01";
  return value > 0.995 ? ">0.99" : fixed(value);
}

const percent = (share) => `${100 * share}%`;

const short = (value) => String(Number(value.toPrecision(4)));

/* A frequency, such as 500 or 4k, and with the unit 500 Hz or 4 kHz. */
function hertz(value, unit = false) {
  const [number, thousands] = value >= 1000 ? [value / 1000, "k"] : [value, ""];
  return short(number) + (unit ? ` ${thousands}Hz` : thousands);
}

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/* The time and the band of each place of a region, as texts, in the order of time. */
function places(region) {
  if (!region.boxes.length) return ["nowhere"];
  return region.boxes.map((box) => {
    const time = box.seconds && `${timed(box.seconds[0])}–${timed(box.seconds[1])} s`;
    const band = box.hertz && `${fixed(box.hertz[0], 0)}–${fixed(box.hertz[1], 0)} Hz`;
    return [time, band].filter(Boolean).join(", ") || "all of the clip";
  });
}

const place = (region) => places(region).join(" and ");

/* Offers a text as a file. */
function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/* The title as the beginning of the name of a file. */
function fileName(ending) {
  const stem = facts.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "explanations";
  return `${stem.toLowerCase()}-${ending}`;
}
