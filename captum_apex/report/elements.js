"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);

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

function fixed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? "−" + text : text;
}

/* A logit or a contribution to one: two digits after the point, up to four for small values. */
function logit(value) {
  const first = value ? -Math.floor(Math.log10(Math.abs(value))) : 0;
  return fixed(value, Math.min(Math.max(first + 1, 2), 4));
}

function signed(value) {
  const text = logit(value);
  return text.startsWith("−") ? text : "+" + text;
}

const percent = (share) => `${100 * share}%`;

const short = (value) => String(Number(value.toPrecision(4)));

const hertz = (value) => (value >= 1000 ? `${short(value / 1000)}k` : short(value));
