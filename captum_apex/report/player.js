/* One sound at a time, through one audio element. `current` holds the button that started it, its clip, and the second
   of the clip at which it begins. */
const player = document.getElementById("player");
const addresses = new Map();
const PATIENCE = 300; // milliseconds without a sound, after which the page says why
let current = null;

const PLAY = "M3 1.5v13l11-6.5z";
const PAUSE = "M3 2h3.5v12H3zM9.5 2H13v12H9.5z";

function soundButton(text, description, sound, clip) {
  if (!sound) return null;
  const icon = drawing("path", { d: PLAY });
  const button = element(
    "button",
    { type: "button", class: "sound", "aria-pressed": "false", "aria-label": description, "data-sound": sound.sound },
    drawing("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, icon),
    element("span", {}, text),
  );
  button.addEventListener("click", () => (current?.button === button ? turn() : start(button, sound, clip)));
  return button;
}

function start(button, sound, clip, at = 0) {
  stop();
  const started = { button, clip, start: sound.start, ready: false };
  current = started;
  const late = setTimeout(() => tell("The sound is being cut out of the clip …"), PATIENCE);
  address(sound.sound).finally(() => clearTimeout(late)).then((source) => {
    if (current !== started) return; // another sound was started while this one was cut
    started.ready = true;
    player.src = source;
    if (at) player.addEventListener("loadedmetadata", () => (player.currentTime = at), { once: true });
    resume();
  }, failed);
}

function turn() {
  if (!current.ready) return;
  if (player.paused) resume();
  else player.pause();
}

function resume() {
  player.play().catch(failed);
}

function failed(error) {
  if (error.name !== "AbortError") tell(`This browser cannot play the sound: ${error.message}`);
}

function stop() {
  player.pause();
  if (current) show(false);
  current = null;
  for (const line of document.querySelectorAll(".cursor")) line.hidden = true;
}

function show(sounding) {
  current.button.setAttribute("aria-pressed", String(sounding));
  current.button.querySelector("path").setAttribute("d", sounding ? PAUSE : PLAY);
}

/* The address of a sound's file; what is being cut for an earlier press of the button is waited for. */
function address(name) {
  if (!addresses.has(name)) addresses.set(name, addressOf(name));
  return addresses.get(name);
}

async function addressOf(name) {
  return URL.createObjectURL(await soundFile(name));
}

function follow() {
  if (!current) return;
  const clip = facts.clips[current.clip];
  const share = clip.start + clip.rate * (current.start + player.currentTime);
  for (const line of document.querySelectorAll(`.picture[data-clip="${current.clip}"] .cursor`)) {
    line.hidden = share < 0 || share > 1;
    line.style.left = percent(share);
  }
  if (!player.paused) requestAnimationFrame(follow);
}

function tell(text) {
  document.getElementById("message").textContent = text;
}

player.addEventListener("play", () => {
  if (!current) return;
  tell("");
  show(true);
  follow();
});
player.addEventListener("pause", () => current && show(false));
player.addEventListener("ended", stop);
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
