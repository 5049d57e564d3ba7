/* The evidence of all clips as a table, in the columns of `ExplainedClips.write_csv`, with the reader's names. */
const DIGITS = 6; // significant digits
const YES_OR_NO = { true: "yes", false: "no" };

const rounded = (value) => (value === null ? null : Number(value.toPrecision(DIGITS)));

const sides = (start, end, low, high) => ({
  start_s: rounded(start),
  end_s: rounded(end),
  low_hz: rounded(low),
  high_hz: rounded(high),
});

/* The time and the band from the first to the last box of a region, and each box, without an axis that they cover. */
const ends = ({ ends: { start, end, low, high }, boxes }) => ({
  ...sides(
    ...(boxes.some(({ seconds }) => seconds) ? [start, end] : [null, null]),
    ...(boxes.some(({ hertz }) => hertz) ? [low, high] : [null, null]),
  ),
  boxes: boxes.map(boxSides),
});

const boxSides = ({ seconds, hertz }) => sides(...(seconds ?? [null, null]), ...(hertz ?? [null, null]));

function boxText({ start_s, end_s, low_hz, high_hz }) {
  const time = start_s === null ? null : `${start_s}–${end_s} s`;
  const band = low_hz === null ? null : `${low_hz}–${high_hz} Hz`;
  return [time, band].filter(Boolean).join(", ") || "all of the clip";
}

function evidenceRows() {
  return facts.pages.flatMap((page) =>
    page.perspectives.flatMap((view) => view.evidence.map((each) => evidenceRow(page, view, each))),
  );
}

function evidenceRow(page, perspective, evidence) {
  const clip = facts.clips[page.clip];
  const { name, note } = entryOf(perspective, evidence.channel);
  return {
    clip: clip.name,
    label: clip.label,
    explained: page.explained,
    score: rounded(perspective.score),
    probability: rounded(page.probability),
    scheme: perspective.scheme,
    channel: evidence.channel,
    side: evidence.side,
    contribution: rounded(evidence.contribution),
    purity: rounded(evidence.purity),
    ...ends(evidence),
    channel_falls: rounded(evidence.masking?.channel ?? null),
    random_falls: rounded(evidence.masking?.random ?? null),
    score_falls: rounded(evidence.masking?.score ?? null),
    doubts: evidence.masking?.doubts ?? "",
    fires_at: evidence.elsewhere.map(boxSides),
    prototypes: evidence.prototypes.map((prototype) => {
      const { name, label } = facts.clips[prototype.clip];
      return { clip: name, label: label || prototype.class, purity: rounded(prototype.purity), ...ends(prototype) };
    }),
    silent: evidence.silent,
    channel_name: name,
    channel_note: note,
  };
}

/* A text on one line that a spreadsheet takes as text, and not as a formula. */
function cellText(text) {
  const line = text.trim().split(/\s+/).join(" ");
  return /^[=+\-@"]/.test(line) ? `'${line}` : line;
}

function csv(rows) {
  const cell = (value) => {
    const text = value === null ? "" : typeof value === "string" ? cellText(value) : String(YES_OR_NO[value] ?? value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const flat = rows.map((row) => ({
    ...row,
    boxes: row.boxes.map(boxText).join("; "),
    fires_at: row.fires_at.map(boxText).join("; "),
    prototypes: row.prototypes.map(({ clip }) => clip).join("; "),
  }));
  const lines = flat.length ? [Object.keys(flat[0]), ...flat.map(Object.values)] : [];
  return lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
}

function evidenceTools() {
  const saveTable = () => download(fileName("evidence.csv"), csv(evidenceRows()), "text/csv");
  const saveJson = () => {
    download(fileName("evidence.json"), JSON.stringify(evidenceRows(), null, 1) + "\n", "application/json");
  };
  return [
    element("button", { type: "button", class: "switch", onclick: saveTable }, "Evidence as CSV"),
    element("button", { type: "button", class: "switch", onclick: saveJson }, "Evidence as JSON"),
  ];
}
