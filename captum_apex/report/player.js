/* One sound at a time, through one audio element. `current` holds the button that started it, its clip, the second of
   the clip at which it begins, and the seconds of the sound from and until which it plays. */
const player = document.getElementById("player");
const addresses = new Map();
const PATIENCE = 300; // milliseconds without a sound, after which the page says why
let current = null;

const PLAY = "M3 1.5v13l11-6.5z";
const PAUSE = "M3 2h3.5v12H3zM9.5 2H13v12H9.5z";

/* A button for a sound. Its name is the text that is visible and what the text is about, such as "region of channel 3".
   `from` and `until` are seconds of the sound. */
function soundButton(text, about, sound, clip, { from = 0, until = null } = {}) {
  if (!sound) return null;
  const icon = drawing("path", { d: PLAY });
  const button = element(
    "button",
    { type: "button", class: "sound", "aria-pressed": "false", "data-sound": sound.sound },
    drawing("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, icon),
    element("span", {}, text, unseen(` ${about}`)),
  );
  button.addEventListener("click", () => {
    if (current?.button === button) turn();
    else start(button, sound, clip, from, until);
  });
  return button;
}

function start(button, sound, clip, at = 0, until = null) {
  stop();
  const started = { button, clip, start: sound.start, from: at, until, ready: false };
  current = started;
  announce();
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
  prepare();
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
  announce();
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
  turnBack();
  if (!current) return;
  const seconds = current.start + player.currentTime;
  showTime(seconds);
  const clip = facts.clips[current.clip];
  const share = clip.start + clip.rate * seconds;
  for (const line of document.querySelectorAll(`.picture[data-clip="${current.clip}"] .cursor`)) {
    line.hidden = share < 0 || share > 1;
    line.style.left = percent(share);
  }
  const sliders = document.querySelectorAll(`[role="slider"][data-clip="${current.clip}"]`);
  for (const slider of sliders) setPosition(slider, seconds);
  if (!player.paused) requestAnimationFrame(follow);
}

/* At the end of a part of a sound: back to its beginning, or stop. */
function turnBack() {
  if (!current.ready || current.until === null || player.currentTime < current.until) return;
  if (looping()) player.currentTime = current.from;
  else stop();
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
player.addEventListener("timeupdate", () => current && turnBack()); // a hidden page draws no frames
player.addEventListener("ended", stop);
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
