/* Names and notes that a reader gives to channels. They are kept in this browser, for all pages with the same basis. */
const STORE = "captum-apex channel names";
const NAMES_FORMAT = "captum-apex channel names 1";
const channelNames = storedNames();

function storedNames() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {}; // this browser keeps nothing for files: the names last as long as the page
  }
}

function storeNames() {
  try {
    localStorage.setItem(STORE, JSON.stringify(channelNames));
  } catch {
    tell("This browser does not keep names: export them before you close the page.");
  }
}

/* The basis by its fingerprint; pages whose explanations name no basis keep the names to themselves. */
const basisOf = (perspective) => perspective.basis || `${perspective.scheme} of ${facts.title}`;

/* What the reader calls a channel, or else what the page was written with. */
function entryOf(perspective, channel) {
  const basis = basisOf(perspective);
  return channelNames[basis]?.[channel] ?? facts.names[basis]?.[channel] ?? { name: "", note: "" };
}

const nameOf = (perspective, channel) => entryOf(perspective, channel).name;

function rename(perspective, channel, entry) {
  const basis = basisOf(perspective);
  channelNames[basis] = { ...channelNames[basis], [channel]: entry };
  if (!entry.name && !entry.note && !facts.names[basis]?.[channel]) delete channelNames[basis][channel];
  storeNames();
}

const namesOf = (basis) => ({ ...facts.names[basis], ...channelNames[basis] });

/* The names of the bases of this page as a file. */
function exportNames() {
  const bases = new Map(facts.pages.flatMap((page) => page.perspectives.map((each) => [basisOf(each), each.scheme])));
  const listed = [...bases].map(([basis, scheme]) => ({ basis, scheme, channels: namesOf(basis) }));
  const text = JSON.stringify({ format: NAMES_FORMAT, bases: listed }, null, 1);
  download(fileName("channel-names.json"), text + "\n", "application/json");
}

/* Takes the names of a file, also over names that are here already. */
async function importNames(file) {
  try {
    const { format, bases } = JSON.parse(await file.text());
    if (format !== NAMES_FORMAT) throw new Error("it does not hold channel names");
    for (const { basis, channels } of bases) {
      for (const [channel, { name, note }] of Object.entries(channels)) {
        channelNames[basis] = { ...channelNames[basis], [channel]: { name: String(name), note: String(note) } };
      }
    }
  } catch (error) {
    tell(`This file cannot be imported: ${error.message}`);
    return;
  }
  storeNames();
  route();
}

function namesTools() {
  const input = element("input", { type: "file", accept: ".json,application/json", class: "unseen", tabindex: "-1" });
  input.setAttribute("aria-label", "File with channel names");
  input.addEventListener("change", () => input.files.length && importNames(input.files[0]));
  return [
    element("button", { type: "button", class: "switch", onclick: exportNames }, "Export names"),
    element("button", { type: "button", class: "switch", onclick: () => input.click() }, "Import names"),
    input,
  ];
}
