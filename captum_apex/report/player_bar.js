/* The bar below the page: what is played, the position, and loop, half speed and gain for all sounds. */
const GAIN = { lowest: -12, highest: 24, step: 3 }; // in dB
const bar = { gain: 0, loop: false, slow: false, amplifier: null };

const looping = () => bar.loop;

/* The settings, before the sound is played. */
function prepare() {
  player.loop = bar.loop && current?.until === null;
  player.preservesPitch = true;
  player.defaultPlaybackRate = player.playbackRate = bar.slow ? 0.5 : 1;
  if (bar.gain && !bar.amplifier) connectAmplifier();
  if (!bar.amplifier) return;
  bar.amplifier.gain.value = 10 ** (bar.gain / 20);
  bar.amplifier.context.resume();
}

/* Only where a gain is asked for: an audio element alone cannot play louder than the file. */
function connectAmplifier() {
  const context = new AudioContext();
  bar.amplifier = context.createGain();
  context.createMediaElementSource(player).connect(bar.amplifier).connect(context.destination);
}

function playerBar() {
  const section = document.getElementById("player-bar");
  section.hidden = !Object.keys(facts.sounds).length;
  section.classList.add("idle");
  const toggle = (text, key) =>
    element("button", { type: "button", class: "switch", "aria-pressed": "false", "data-setting": key, onclick }, text);
  const onclick = ({ currentTarget }) => {
    const key = currentTarget.dataset.setting;
    bar[key] = !bar[key];
    currentTarget.setAttribute("aria-pressed", String(bar[key]));
    prepare();
  };
  section.replaceChildren(
    element("p", { id: "playing" }, "Nothing is playing"),
    element("span", { id: "time", "aria-hidden": "true" }),
    roving(element("div", { class: "settings" }, toggle("Loop", "loop"), toggle("Half speed", "slow"))),
    gainSlider(),
  );
}

function gainSlider() {
  const output = element("output", { for: "gain" }, "0 dB");
  const oninput = ({ currentTarget }) => {
    bar.gain = Number(currentTarget.value);
    output.textContent = `${bar.gain > 0 ? "+" : ""}${fixed(bar.gain, 0)} dB`;
    prepare();
  };
  const { lowest, highest, step } = GAIN;
  const range = { type: "range", id: "gain", min: lowest, max: highest, step, value: 0, oninput };
  return element("div", { class: "gain" }, element("label", { for: "gain" }, "Gain"), element("input", range), output);
}

/* What is played, in words. */
function announce() {
  const node = document.getElementById("playing");
  if (!current) return;
  document.getElementById("player-bar").classList.remove("idle");
  const clip = facts.clips[current.clip];
  const what = current.button.textContent.trim().replace(/\s+/g, " ");
  node.replaceChildren(element("span", { class: "what" }, what), named(clip.title || "clip"));
}

function showTime(seconds) {
  document.getElementById("time").textContent = `${timed(seconds)} / ${timed(facts.clips[current.clip].duration)} s`;
}
