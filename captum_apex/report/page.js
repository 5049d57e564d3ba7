/* The page: which view the address names, and what is printed. `shown` is the view that the page has now. */
let shown = { number: null, scheme: null, channel: null, choose: null };

/* An address within the page, such as #clip=3&perspective=time. */
function linkTo(values) {
  const known = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return `#${new URLSearchParams(known)}`;
}

/* Turns to what the address names: a channel, or a clip in a perspective. */
function route() {
  const text = location.hash.slice(1);
  if (text === "main") return;
  const values = new URLSearchParams(text);
  const scheme = values.get("perspective") ?? shown.scheme;
  const channel = values.get("channel");
  if (channel !== null && uses.has(`${scheme} ${channel}`)) turnToChannel(scheme, Number(channel));
  else turnToClip(Number(values.get("clip") ?? text) || 1, scheme);
  markCurrent();
}

function turnToChannel(scheme, channel) {
  stop();
  showChannel(scheme, channel);
  document.title = `Channel ${channel} · ${facts.title}`;
  arrive({ number: null, scheme, channel, choose: null });
}

function turnToClip(wanted, scheme) {
  const number = facts.pages[wanted - 1] ? wanted : 1;
  const page = facts.pages[number - 1];
  const i = Math.max(page.perspectives.findIndex((perspective) => perspective.scheme === scheme), 0);
  const chosen = page.perspectives[i].scheme;
  if (shown.number === number) {
    shown.choose(i);
    shown.scheme = chosen;
    return;
  }
  stop();
  const choose = showClip(page, i);
  document.title = `${facts.clips[page.clip].title || `Clip ${number}`} · ${facts.title}`;
  arrive({ number, scheme: chosen, channel: null, choose });
}

/* After the first view, the reader is led to the beginning of each new one. */
function arrive(view) {
  const first = shown.scheme === null;
  shown = view;
  if (first) {
    const { number, scheme, channel } = view;
    location.replace(linkTo({ clip: number, perspective: scheme, channel })); // so that the way back leads here
    return;
  }
  document.getElementById("main").focus({ preventScroll: true });
  scrollTo(0, 0);
}

playerBar();
document.getElementById("tools").replaceChildren(roving(element("div", { class: "buttons" }, evidenceTools())));
clipList();
route();
addEventListener("hashchange", route);
addEventListener("beforeprint", () => fillPrint(true));
addEventListener("afterprint", () => fillPrint(false));
matchMedia("print").addEventListener("change", ({ matches }) => fillPrint(matches));
if (matchMedia("print").matches) fillPrint(true);
