"""The page of the user study (section 4.4): three images at a time, one question, and a file of answers at the end.

It is one HTML file beside its images, asks the network for nothing else, and runs from a disk as from a web server.
The order of the trials is drawn in the browser from the participant's seed, by the rule of `study_kit.order`.
"""

import json
from html import escape

# Of each task: what A and B are called.
_TOLD = {"sr": "two versions of it", "downscaling": "two small versions of it"}


def page(kit) -> str:
    """The whole page of a kit.

    Args:
        kit: its manifest, see `study_kit.make`.
    """
    # Scripts are inside, images beside it: the browser itself refuses everything else.
    policy = "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    known = {name: kit[name] for name in ("digest", "task", "scale", "profile", "repeats", "questions")}
    data = json.dumps(known).replace("<", "\\u003c")  # no image's name ends the script
    count = len(kit["questions"]) + kit["repeats"]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1, maximum-scale=1, user-scalable=no">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="color-scheme" content="light dark">\n<meta name="robots" content="noindex">',
            f'<link rel="icon" href="data:,">\n<title>Which one looks better?</title>\n<style>{_CSS}</style>',
            '</head>\n<body>\n<noscript class="text">This study needs JavaScript.</noscript>',
            _BODY.replace("[count]", str(count)).replace("[variants]", escape(_TOLD[kit["task"]])),
            f'<script type="application/json" id="kit">{data}</script>',
            f"<script>{ORDER_JS}{_JS}</script>\n</body>\n</html>\n",
        ]
    )


_BODY = """
<main id="begin" class="text" hidden>
<h1>Which one looks better?</h1>
<p>You will see [count] groups of three images: an original in the middle, and on its left (A) and right (B)
[variants]. Say each time which of the two looks better to you, or that they are equal.</p>
<ul>
<li>Take the time you want, at any distance from the screen.</li>
<li>Every pixel of an image is one of your screen; leave the browser's zoom alone. If a group is larger than the window,
drag it or scroll.</li>
<li>You can close the page and come back to it: it goes on where you were.</li>
<li>Nothing is sent. At the end your answers are saved as a file, for you to hand to those who asked you.</li>
</ul>
<form id="start">
<label for="code">Code, yours or a given one (letters, digits and hyphens; not your name)</label>
<input id="code" required maxlength="32" pattern="[A-Za-z0-9\\-]+" title="letters, digits and hyphens"
  autocomplete="off" spellcheck="false">
<button class="main">Begin</button>
</form>
</main>
<main id="trial" hidden>
<div id="stage" tabindex="0" role="group" aria-label="The images; scroll or drag if they are larger than the window">
<div id="row">
<figure><figcaption>A</figcaption><img id="a" alt="Version A" draggable="false"></figure>
<figure><figcaption>Original</figcaption><img id="original" alt="The original" draggable="false"></figure>
<figure><figcaption>B</figcaption><img id="b" alt="Version B" draggable="false"></figure>
</div>
</div>
<div id="panel">
<h1 id="question" tabindex="-1">Which one looks better?</h1>
<div id="answers" role="group" aria-labelledby="question">
<button data-answer="a">A is better than B <kbd>A</kbd></button>
<button data-answer="equal">A equals B <kbd>E</kbd></button>
<button data-answer="b">B is better than A <kbd>B</kbd></button>
</div>
<div id="progress"><progress id="bar" aria-label="Progress"></progress> <span id="count" role="status"></span></div>
</div>
</main>
<main id="end" class="text" hidden>
<h1 tabindex="-1">Thank you</h1>
<p>Your answers are in the file <code id="name"></code>, among your downloads. Please hand it to those who asked
you.</p>
<p><button id="save" class="main">Save the file again</button> <button id="next">Next participant</button></p>
</main>
<p id="trouble" class="text" role="alert" hidden></p>
"""

# The same in Python: study_kit.order.
ORDER_JS = """
"use strict";
// mulberry32 (Tommy Ettinger, public domain): whole numbers below 2^32.
const generator = seed => () => {
  seed = (seed + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
  mixed = (mixed ^ (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61))) >>> 0;
  return (mixed ^ (mixed >>> 14)) >>> 0;
};
const shuffled = (items, draw) => {
  items = [...items];
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(draw() / 2 ** 32 * (i + 1));
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
};
const order = (questions, repeats, seed) => {
  const draw = generator(seed), every = [...Array(questions).keys()], seen = new Set();
  const asked = shuffled([...every, ...shuffled(every, draw).slice(0, repeats)], draw);
  return asked.map(question => {
    const trial = {question, repeat: seen.has(question), car: draw() < 2 ** 31 ? "a" : "b"};
    seen.add(question);
    return trial;
  });
};
"""

_JS = r"""
const kit = JSON.parse(document.getElementById("kit").textContent), place = "carlib-study-" + kit.digest;
const at = id => document.getElementById(id), images = ["a", "original", "b"].map(at), stage = at("stage");
let state = null, trials = [], shownAt = null;

const trouble = text => { at("trouble").textContent = text; at("trouble").hidden = false; };
const keep = () => {
  try { localStorage.setItem(place, JSON.stringify(state)); }
  catch { trouble("This browser keeps nothing: do not reload or close the page before the end."); }
};
const kept = () => {
  try {
    const found = JSON.parse(localStorage.getItem(place));
    return found && Number.isInteger(found.seed) && Array.isArray(found.answers) ? found : null;
  } catch { return null; }
};
const random = () => crypto.getRandomValues(new Uint32Array(1))[0];
const show = name => { for (const id of ["begin", "trial", "end"]) at(id).hidden = id !== name; };

// One pixel of an image is one of the screen, whatever the browser's zoom, and begins where one of the screen begins.
const native = () => {
  const ratio = devicePixelRatio;
  for (const image of images) {
    Object.assign(image.style, {left: 0, top: 0, width: image.naturalWidth / ratio + "px",
      height: image.naturalHeight / ratio + "px"});
  }
  for (const image of images) {
    const {left, top} = image.getBoundingClientRect();
    image.style.left = Math.round(left * ratio) / ratio - left + "px";
    image.style.top = Math.round(top * ratio) / ratio - top + "px";
  }
};

const filesOf = trial => {
  const {original, car, other} = kit.questions[trial.question];
  return (trial.car === "a" ? [car, original, other] : [other, original, car]).map(name => "images/" + name);
};
const ask = async () => {
  const number = state.answers.length, trial = trials[number];
  shownAt = null;
  if (!trial) return end();
  show("trial");
  stage.classList.add("waiting");
  at("bar").max = trials.length;
  at("bar").value = number;
  at("count").textContent = `${number + 1} of ${trials.length}`;
  filesOf(trial).forEach((file, i) => { images[i].src = file; });
  try { await Promise.all(images.map(image => image.decode())); }
  catch { return trouble("An image could not be loaded. Reload the page: it goes on here."); }
  native();
  stage.scrollLeft = (stage.scrollWidth - stage.clientWidth) / 2;
  stage.scrollTop = 0;
  native();
  stage.classList.remove("waiting");
  shownAt = performance.now();
  if (trials[number + 1]) for (const file of filesOf(trials[number + 1])) new Image().src = file;
};
const take = answer => {
  if (shownAt === null || performance.now() - shownAt < 250) return;  // the second half of a double click
  state.answers.push({answer, milliseconds: Math.round(performance.now() - shownAt)});
  keep();
  ask();
};

const record = () => ({
  format: "carlib-study-answers-1", kit: kit.digest, task: kit.task, scale: kit.scale, profile: kit.profile,
  repeats: kit.repeats, participant: state.participant, seed: state.seed,
  trials: trials.map(({question, repeat, car}, i) => {
    const {image, rival} = kit.questions[question];
    return {image, rival, car, repeat, ...state.answers[i]};
  }),
});
const fileName = () => `study-${kit.task}-${kit.digest.slice(0, 8)}-${state.participant}.json`;
const save = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(record(), null, 1) + "\n"], {type: "application/json"}));
  link.download = fileName();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};
const end = () => {
  at("name").textContent = fileName();
  show("end");
  at("end").querySelector("h1").focus();
  if (!state.saved) { save(); state.saved = true; keep(); }
};
const go = found => {
  state = found;
  trials = order(kit.questions.length, kit.repeats, state.seed);
  keep();
  ask();
};
const begin = () => {
  const code = new Uint32Array(2).map(random);
  at("code").value = [...code].map(part => part.toString(36)).join("").slice(0, 8).toUpperCase();
  show("begin");
};

at("start").addEventListener("submit", event => {
  event.preventDefault();
  go({participant: at("code").value, seed: random(), answers: [], saved: false});
  at("question").focus();
});
for (const button of at("answers").children) button.addEventListener("click", () => take(button.dataset.answer));
at("save").addEventListener("click", save);
at("next").addEventListener("click", () => {
  if (!confirm("Is the file saved? These answers will be forgotten.")) return;
  try { localStorage.removeItem(place); } catch { /* blocked: nothing was kept */ }
  begin();
});
addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && ["+", "-", "=", "0"].includes(event.key)) event.preventDefault();
  if (at("trial").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const answer = {a: "a", e: "equal", b: "b"}[event.key.toLowerCase()];
  if (answer) take(answer);
});
addEventListener("wheel", event => { if (event.ctrlKey) event.preventDefault(); }, {passive: false});
addEventListener("gesturestart", event => event.preventDefault());
addEventListener("resize", native);

// Dragging moves a group that is larger than the window; fingers do without.
let held = null;
stage.addEventListener("pointerdown", event => {
  if (event.pointerType === "mouse" && event.button === 0) {
    held = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
    stage.setPointerCapture(event.pointerId);
  }
});
stage.addEventListener("pointermove", event => {
  if (held) stage.scrollTo(held[0] - event.clientX, held[1] - event.clientY);
});
for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { held = null; });

const found = kept();
if (found) go(found); else begin();
"""

_CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f23; --soft: #59616b; --line: #c9ced4; --tint: #f1f2f4;
  --link: #0b57a8; --on: #fff; --stage: #dedede; }
@media (prefers-color-scheme: dark) { :root { --paper: #181818; --ink: #e8e8e8; --soft: #ababab; --line: #4a4a4a;
  --tint: #262626; --link: #8cc0ff; --on: #10151b; --stage: #2b2b2b; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
html, body { height: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.text { display: block; max-width: 40rem; margin: 0 auto; padding: clamp(1.5rem, 6vh, 5rem) 1.25rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; }
li { margin: .35rem 0; }
label { display: block; margin: 1.5rem 0 .3rem; }
input { width: 14rem; max-width: 100%; }
input, button { font: inherit; color: inherit; padding: .55rem .9rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--tint); }
button { cursor: pointer; }
button:hover { border-color: var(--link); }
.main { background: var(--link); border-color: var(--link); color: var(--on); font-weight: 600; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
h1:focus-visible { outline: none; }
code { overflow-wrap: anywhere; }
#trial { display: flex; flex-direction: column; height: 100%; }
#stage { flex: 1; min-height: 0; overflow: auto; background: var(--stage); display: flex; cursor: grab;
  touch-action: pan-x pan-y; }
#stage:active { cursor: grabbing; }
#row { display: flex; align-items: flex-start; gap: 12px; padding: 12px; margin: auto; }
.waiting #row { visibility: hidden; }
figure { margin: 0; flex: none; }
figcaption { text-align: center; line-height: 24px; height: 28px; font-weight: 600; }
img { display: block; position: relative; max-width: none; image-rendering: pixelated; user-select: none; }
#panel { padding: .8rem 1rem; border-top: 1px solid var(--line); text-align: center; }
#panel h1 { font-size: 1.1rem; margin: 0 0 .6rem; }
#answers { display: flex; flex-wrap: wrap; justify-content: center; gap: .5rem; }
kbd { font: inherit; font-size: .8rem; padding: 0 .4em; margin-left: .4em; border: 1px solid var(--line);
  border-radius: 4px; background: var(--paper); color: var(--soft); }
@media (hover: none) { kbd { display: none; } }
#progress { margin-top: .6rem; color: var(--soft); font-size: .9rem; font-variant-numeric: tabular-nums; }
progress { width: min(18rem, 60vw); accent-color: var(--link); vertical-align: middle; }
#trouble { padding-block: 1rem; }
@media (max-width: 40rem) { #answers button { flex: 1 0 100%; } #panel { padding: .5rem .8rem; } }
"""
