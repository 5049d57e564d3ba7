/* What is printed: every clip. A few clips have all their cards, which take some twenty sheets each; of many clips the
   pictures and a table are printed in each perspective. */
const FEW_PRINTED = 3;

/* All clips, and how to read them; they are drawn only to be printed. */
function fillPrint(printing) {
  const node = document.getElementById("print");
  const audit = document.querySelector("footer details");
  if (printing && !node.children.length) audit.dataset.open = audit.open;
  audit.open = printing || audit.dataset.open === "true";
  if (printing && node.children.length) return;
  const print = facts.pages.length > FEW_PRINTED ? printedBriefly : printed;
  node.replaceChildren(...(printing ? [...facts.pages.map(print), notes(facts.pages[0])] : []));
}

function printed(page) {
  const perspectives = page.perspectives.map((perspective) => {
    const [title, lead, ...cards] = perspectiveParts(page, perspective);
    return [title, lead, ...query(page, perspective), ...cards.flat()];
  });
  const others = comparison(page, page.perspectives[0]);
  return element("section", { class: "sheet-of-clip" }, heading(page), scores(page), introduction(page, false), perspectives, others);
}

function printedBriefly(page) {
  const perspectives = page.perspectives.map((perspective) => {
    const regions = perspective.evidence.map((channel, i) => outlined(channel, i, i + 1));
    return element(
      "div",
      { class: "brief" },
      element("h3", { class: "printed" }, PERSPECTIVES[perspective.scheme][0]),
      spectrogram(page.clip, { regions }),
      evidenceTable(page, perspective),
    );
  });
  return element("section", { class: "sheet-of-clip" }, heading(page), scores(page), perspectives);
}

/* The evidence of a perspective as a table. */
function evidenceTable(page, perspective) {
  const row = (evidence, i) => {
    const given = nameOf(perspective, evidence.channel);
    const prototypes = evidence.prototypes.map((prototype) => {
      const clip = facts.clips[prototype.clip];
      return [prototype.class, clip.file].filter(Boolean).join(", ") || `clip ${prototype.index}`;
    });
    const cells = [
      String(i + 1),
      `${evidence.channel}${given && ` “${given}”`}`,
      signed(evidence.contribution),
      fixed(evidence.purity),
      [...places(evidence), ...(evidence.silent ? ["silence"] : [])].map((line) => element("div", { class: "line" }, line)),
      prototypes.map((text) => element("div", {}, text)),
    ];
    return element("tr", {}, cells.map((text) => element("td", {}, text)));
  };
  const heads = ["Outline", "Channel", "Adds", "Purity", "Region", "Prototypes"];
  return element(
    "table",
    { class: "evidence-table" },
    element("thead", {}, element("tr", {}, heads.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, perspective.evidence.map(row)),
  );
}
