/* Tables with bars: the score as a sum of contributions, and the highest scores. */
function waterfall(page, perspective) {
  const total = (text, value) => ({ text, from: 0, to: value, kind: "total", figure: logit(value) });
  const rows = [total("without the layer", perspective.before)];
  const add = (text, value, name = "") => {
    const from = rows.at(-1).to;
    rows.push({ text, name, from, to: from + value, kind: value < 0 ? "against" : "towards", figure: signed(value) });
  };
  perspective.evidence.forEach((channel, i) => {
    add(`${i + 1} · channel ${channel.channel}`, channel.contribution, nameOf(perspective, channel.channel));
  });
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
    likely: row.probability === null ? null : likely(row.probability),
    marked: row.explained,
  }));
  const heads = page.exclusive === null ? [] : ["Logit", "Probability"];
  return chart(rows, "Highest logits", "scores", heads);
}

/* A table with a bar from `from` to `to` in each row, all on one scale; `heads` are those of its numbers. */
function chart(rows, title, kind, heads = []) {
  const ends = rows.flatMap((row) => [row.from, row.to]);
  const low = Math.min(0, ...ends);
  const span = Math.max(0, ...ends) - low || 1;
  const at = (value) => percent((value - low) / span);
  const line = (row) => {
    const style = { left: at(Math.min(row.from, row.to)), width: percent(Math.abs(row.to - row.from) / span) };
    return element(
      "tr",
      { class: row.marked ? "marked" : null },
      rowHeading(row),
      element(
        "td",
        { class: "track", "aria-hidden": "true" },
        element("span", { class: "zero", style: { left: at(0) } }),
        element("span", { class: `bar ${row.kind}`, style }),
      ),
      element("td", { class: "figure" }, row.figure),
      row.likely ? element("td", { class: "figure" }, row.likely) : null,
    );
  };
  const body = element("tbody", {}, rows.map(line));
  const head = heads.length ? tableHead(["Class", "", ...heads]) : null;
  return element("table", { class: `chart ${kind}` }, element("caption", {}, title), head, body);
}

function tableHead(texts) {
  const cells = texts.map((text) => (text ? element("th", { scope: "col" }, text) : element("td", {})));
  return element("thead", {}, element("tr", {}, cells));
}

function rowHeading(row) {
  const mark = row.marked ? unseen(", explained") : null;
  const text = element("span", { class: "clamped", title: row.text }, row.before ?? "", named(row.text), mark);
  return element("th", { scope: "row" }, text, row.name ? element("span", { class: "given" }, named(row.name)) : null);
}
