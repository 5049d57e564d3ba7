/* Seeking in a picture: a click plays the clip from there, and so do the arrow keys and Enter. */
const STEP = 0.02; // of an arrow key, as a share of the clip

/* The area of a picture that seeks by a click. On the large picture it is a slider as well. */
function seekArea(name, clip, button, view) {
  const area = element("div", { class: "seek", title: "Play from here", "data-clip": name });
  area.addEventListener("click", (event) => {
    const box = area.getBoundingClientRect();
    const share = view[0] + ((event.clientX - box.left) / box.width) * (view[1] - view[0]);
    start(button, clip.sound, name, within(clip, (share - clip.start) / clip.rate));
  });
  return area;
}

function seekSlider(name, clip, button, view) {
  const slider = seekArea(name, clip, button, view);
  const label = `Position in ${clip.title || "the clip"}`;
  const range = { "aria-valuemin": 0, "aria-valuemax": timed(clip.duration) };
  fill(slider, { role: "slider", tabindex: 0, "aria-label": label, ...range }, []);
  setPosition(slider, 0);
  slider.addEventListener("keydown", (event) => {
    const position = Number(slider.dataset.second);
    const next = nextSecond(event.key, position, clip.duration);
    if (event.key === "Enter" || event.key === " ") {
      if (current?.button === button) turn();
      else start(button, clip.sound, name, position);
    } else if (next !== null) seek(name, button, within(clip, next), slider);
    else return;
    event.preventDefault();
  });
  return slider;
}

function nextSecond(key, second, duration) {
  const steps = { ArrowRight: STEP, ArrowUp: STEP, ArrowLeft: -STEP, ArrowDown: -STEP, PageUp: 0.1, PageDown: -0.1 };
  if (key === "Home") return 0;
  if (key === "End") return duration;
  return key in steps ? second + steps[key] * duration : null;
}

const within = (clip, second) => Math.min(Math.max(second, 0), clip.duration);

/* Moves the sound that is played, or, while none is played, the place at which it will begin. */
function seek(name, button, second, slider) {
  setPosition(slider, second);
  if (current?.button === button) {
    player.currentTime = second;
    return;
  }
  const clip = facts.clips[name];
  const line = slider.parentElement.querySelector(".cursor");
  line.hidden = false;
  line.style.left = percent(clip.start + clip.rate * second);
}

function setPosition(slider, second) {
  slider.dataset.second = second;
  slider.setAttribute("aria-valuenow", timed(second));
  slider.setAttribute("aria-valuetext", `${timed(second)} seconds`);
}
