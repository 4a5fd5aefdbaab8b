// The page: what is seen, and what keys, pointers and fingers do.

const assignment = JSON.parse(document.getElementById("assignment").textContent);
const { tasks, classes } = assignment;
const storage = openStorage();
const answers = new Answers(assignment, storage, () => render());
const search = new ClassSearch(classes);
const pictures = new Map(); // data URIs by position
let grid = null;

/** Keys beside classes, in their order: digits, and the letters that do nothing else. */
const CHOICE_KEYS = [..."1234567890abdefhijklmqstvwy"];
const MOST_FOUND = 100;
const MOST_RECENT = 6;
/** Pixels that a small image may be enlarged by, per side; more shows nothing but squares. */
const MOST_ENLARGED = 10;

const state = {
  at: 0,
  isGrid: false,
  offer: { order: "listed", classes: [] },
  found: null, // positions of the classes found while a search is on
  active: 0, // which of them the keyboard is at
  theme: "system",
  singleKeys: true,
  order: assignment.order,
  probabilities: false,
  annotator: assignment.annotator,
};

const byId = (id) => document.getElementById(id);
const targets = () => (state.isGrid ? grid.targets : [state.at]);
const isOpen = (position) => !answers.answer(position);

/** An element with a class and a text; what comes from outside is only ever set as text. */
function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function key(text) {
  const made = element("kbd", "", text);
  made.setAttribute("aria-hidden", "true");
  return made;
}

// ---- What the browser keeps besides answers: what the person chose -------------------------------------------------

const CHOSEN = { "ccma-label/settings": ["theme", "singleKeys"] };
CHOSEN[`${answers.prefix}settings`] = ["order", "probabilities", "annotator"];

function readSettings() {
  const allowed = {
    theme: (value) => ["system", "light", "dark"].includes(value),
    order: (value) => ["likeliest", "shuffled", "listed"].includes(value),
    singleKeys: (value) => typeof value === "boolean",
    probabilities: (value) => typeof value === "boolean",
    annotator: (value) => typeof value === "string" && !assignment.annotator,
  };
  for (const [item, names] of Object.entries(CHOSEN)) {
    try {
      const saved = (storage && JSON.parse(storage.getItem(item))) || {};
      names.filter((name) => allowed[name](saved[name])).forEach((name) => { state[name] = saved[name]; });
    } catch {
      // what cannot be read is as if nothing were chosen
    }
  }
}

function keepSettings() {
  for (const [item, names] of Object.entries(CHOSEN)) {
    keep(item, JSON.stringify(Object.fromEntries(names.map((name) => [name, state[name]]))));
  }
}

function keep(item, text) {
  try {
    if (storage) {
      storage.setItem(item, text);
    }
  } catch {
    // the page works without; that answers are not saved is said by itself
  }
}

// ---- Time taken ----------------------------------------------------------------------------------------------------

const clock = { since: performance.now(), hiddenAt: null };

function restartClock() {
  clock.since = performance.now();
  clock.hiddenAt = document.hidden ? clock.since : null;
}

function secondsTaken() {
  return Math.max(0, (clock.hiddenAt ?? performance.now()) - clock.since) / 1000;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clock.hiddenAt = performance.now();
  } else if (clock.hiddenAt !== null) {
    clock.since += performance.now() - clock.hiddenAt;
    clock.hiddenAt = null;
    answers.synchronise();
    render();
  }
});

// ---- Answers -------------------------------------------------------------------------------------------------------

function answerText(position) {
  const answer = answers.answer(position);
  if (!answer) {
    return "";
  }
  return answer.label === null ? answer.refusal : classes[answer.label];
}

function nameOf(positions) {
  return positions.length === 1 ? tasks[positions[0]].image : `${positions.length} images`;
}

/** Answer what is seen or selected, and go on to what is open. */
function answerWith(label, refusal) {
  const positions = targets();
  if (!positions.length) {
    say("No image is selected.");
    return;
  }
  const { order, classes: list } = state.offer;
  answers.give(positions, {
    label,
    refusal,
    seconds: Math.round((secondsTaken() / positions.length) * 1000) / 1000,
    order,
    shown: order === "listed" ? [] : list.map(({ index }) => index),
    probabilities: order !== "listed" && state.probabilities,
  });
  endSearch();
  const next = nextOpen(positions);
  if (state.isGrid) {
    const hadFocus = grid.list.contains(document.activeElement);
    grid.clear();
    grid.refresh(answerText, isShown);
    grid.moveBehind(positions, isOpen);
    say(`${answerText(positions[0])} · ${nameOf(positions)}`);
    restartClock();
    render();
    if (hadFocus) {
      grid.focus();
    }
  } else {
    goTo(next ?? state.at, `${answerText(positions[0])} · ${nameOf(positions)}`);
  }
  if (next === undefined) {
    showDone();
  }
}

/** The first image without an answer behind the given ones, or from the beginning; undefined where there is none. */
function nextOpen(positions) {
  const last = Math.max(-1, ...positions);
  const open = tasks.map((_, position) => position).filter(isOpen);
  return open.find((position) => position > last) ?? open[0];
}

function undo() {
  const { positions, why } = answers.undo();
  if (positions.length && !state.isGrid) {
    state.at = positions[0];
  } else if (positions.length) {
    grid.at = positions[0];
  }
  restartClock();
  say(why || `Undone · ${nameOf(positions)}`);
  render();
}

function goTo(position, message) {
  state.at = Math.max(0, Math.min(tasks.length - 1, position));
  endSearch();
  restartClock();
  const progress = `Image ${state.at + 1} of ${tasks.length}`;
  say(message ? `${message}. ${progress}` : progress);
  render();
}

function goToOpen() {
  const next = nextOpen(targets().length ? targets() : [state.at]);
  if (next === undefined) {
    showDone();
  } else if (state.isGrid) {
    grid.at = next;
    grid.anchor = next;
    render();
    grid.focus();
  } else {
    goTo(next);
  }
}

function step(by) {
  if (state.isGrid) {
    grid.focus();
  } else if (state.at + by >= 0 && state.at + by < tasks.length) {
    goTo(state.at + by);
  } else {
    say(by < 0 ? "This is the first image." : "This is the last image.");
  }
}

function showGrid(isGrid) {
  if (isGrid) {
    grid.at = state.at;
    grid.anchor = state.at;
  } else {
    state.at = grid.at;
    grid.clear();
  }
  state.isGrid = isGrid;
  endSearch();
  restartClock();
  render();
  if (isGrid) {
    grid.focus();
    grid.tiles[grid.at].scrollIntoView({ block: "nearest" });
  }
}

function isShown(position) {
  const wanted = byId("filter").value;
  return wanted === "all" || (wanted === "open") === isOpen(position);
}

// ---- What is seen --------------------------------------------------------------------------------------------------

function say(text) {
  byId("status").textContent = text;
}

function render() {
  document.body.dataset.view = state.isGrid ? "grid" : "single";
  renderHeader();
  byId("single").hidden = state.isGrid;
  byId("grid").hidden = !state.isGrid;
  if (state.isGrid) {
    renderGrid();
  } else {
    renderSingle();
  }
  renderPanel();
}

function renderHeader() {
  const { nAnswered, nNew } = answers;
  byId("count").textContent = `${nAnswered} of ${tasks.length} answered`;
  byId("who").textContent = state.annotator;
  byId("progress").max = tasks.length;
  byId("progress").value = nAnswered;
  byId("to-grid-name").textContent = state.isGrid ? "One image" : "Grid";
  byId("export").disabled = nAnswered === 0;
  byId("export").classList.toggle("primary", nNew > 0);
  byId("export").textContent = [nAnswered && !nNew ? "Exported" : "Export", nAnswered || ""].join(" ");
  byId("unsaved").hidden = answers.isSaved;
}

function renderSingle() {
  const { image } = tasks[state.at];
  const picture = byId("image");
  const uri = pictures.get(state.at);
  picture.hidden = !uri;
  byId("no-picture").hidden = Boolean(uri);
  if (uri) {
    if (picture.dataset.position !== String(state.at)) {
      picture.dataset.position = state.at;
      picture.src = uri;
    }
    picture.alt = image;
  } else {
    byId("no-picture").textContent = `The picture is missing: ${assignment.missing[image] || "it is not in this file"}`;
  }
  byId("position").textContent = `${state.at + 1} / ${tasks.length}`;
  byId("image-name").textContent = image;
}

byId("image").addEventListener("load", ({ target }) => {
  target.style.maxWidth = `${target.naturalWidth * MOST_ENLARGED}px`;
  target.style.maxHeight = `${target.naturalHeight * MOST_ENLARGED}px`;
});

function renderGrid() {
  grid.refresh(answerText, isShown);
  byId("no-tiles").hidden = grid.visible.length > 0;
  byId("selected").textContent = grid.selected.size ? `${grid.selected.size} selected` : "";
  document.body.classList.toggle("has-selection", grid.selected.size > 0);
}

function renderPanel() {
  const positions = targets();
  const given = new Set(positions.map(answerText));
  const common = given.size === 1 ? [...given][0] : "";
  renderCurrent(positions, common);
  state.offer = offered(positions.map((position) => tasks[position]), state.order, assignment.seed, classes.length);
  const isListed = state.offer.order === "listed";
  const titles = { likeliest: "Likely classes", shuffled: "Likely classes, shuffled", listed: "All classes" };
  byId("list-title").textContent = state.found ? "Classes found" : titles[state.offer.order];
  byId("to-probabilities").hidden = isListed || state.found !== null;
  byId("to-probabilities-name").textContent = state.probabilities ? "Hide probabilities" : "Show probabilities";
  byId("search").placeholder = `Search all ${classes.length} classes`;
  byId("choices").hidden = state.found !== null;
  byId("found").hidden = state.found === null;
  byId("found-more").hidden = state.found === null || state.found.length <= MOST_FOUND;
  byId("end-search").hidden = state.found === null;
  byId("search").setAttribute("aria-expanded", String(state.found !== null));
  renderChoices(positions);
  renderRecent();
  const refusals = assignment.refusals;
  const isRefusal = positions.length > 0 && positions.every((at) => answers.answer(at)?.label === null);
  press(byId("cannot-tell"), isRefusal && common === refusals.cannotTell);
  press(byId("no-class"), isRefusal && common === refusals.noClass);
  press(byId("other-refusal"), isRefusal && ![refusals.cannotTell, refusals.noClass, ""].includes(common));
}

function renderCurrent(positions, common) {
  const line = byId("current");
  if (positions.length === 1) {
    const note = answers.note(positions[0]);
    line.textContent = common || "Not answered";
    if (note) {
      line.append(element("span", "soft", ` · ${note}`));
    }
  } else {
    line.textContent = positions.length ? `${positions.length} images selected` : "No image selected";
  }
  line.classList.toggle("answered", positions.length === 1 && common !== "");
}

function press(button, isPressed) {
  button.setAttribute("aria-pressed", String(isPressed));
}

/** The buttons of the classes that are offered; built anew only where these are others. */
function renderChoices(positions) {
  const list = byId("choices");
  const signature = JSON.stringify([state.offer, state.probabilities, state.singleKeys]);
  if (list.dataset.signature !== signature) {
    const hadFocus = list.contains(document.activeElement);
    list.dataset.signature = signature;
    list.replaceChildren(...state.offer.classes.map(choiceButton));
    if (list.firstChild) {
      list.firstChild.tabIndex = 0;
      if (hadFocus) {
        list.firstChild.focus();
      }
    }
  }
  const labels = new Set(positions.map((position) => answers.answer(position)?.label ?? null));
  const only = labels.size === 1 ? [...labels][0] : null;
  state.offer.classes.forEach(({ index }, i) => press(list.children[i], index === only));
  const seen = positions.join();
  if (list.dataset.seen !== seen) {
    list.dataset.seen = seen;
    const chosen = list.querySelector('[aria-pressed="true"]');
    list.scrollTop = chosen ? chosen.offsetTop - list.clientHeight / 2 : 0;
  }
}

function choiceButton({ index, probability }, place) {
  const button = element("button", "choice", "");
  button.type = "button";
  button.tabIndex = -1;
  button.dataset.index = index;
  if (state.singleKeys && place < CHOICE_KEYS.length) {
    button.append(key(CHOICE_KEYS[place]));
    button.setAttribute("aria-keyshortcuts", CHOICE_KEYS[place]);
  }
  const name = element("span", "choice-name", classes[index]);
  name.dir = "auto";
  button.append(name);
  if (probability !== null && state.probabilities) {
    button.append(element("span", "probability", percentage(probability)));
    button.style.setProperty("--probability", `${100 * probability}%`);
    button.classList.add("with-probability");
  }
  return button;
}

function percentage(probability) {
  if (probability > 0 && probability < 0.001) {
    return "< 0.1 %";
  }
  return `${(100 * probability).toFixed(probability < 0.0995 ? 1 : 0)} %`;
}

function renderRecent() {
  const recent = answers.recent(MOST_RECENT);
  byId("recent-row").hidden = recent.length === 0 || state.found !== null;
  byId("recent").replaceChildren(...recent.map((index, place) => {
    const button = element("button", "chip", "");
    button.type = "button";
    button.dataset.index = index;
    const name = element("span", "", classes[index]);
    name.dir = "auto";
    button.append(name);
    if (place === 0 && state.singleKeys) {
      button.append(key("."));
    }
    return button;
  }));
}

// ---- Search over all classes ---------------------------------------------------------------------------------------

/** Look for classes: without a text all of them, led by those that were used last. */
function find() {
  const text = byId("search").value;
  state.found = search.find(text);
  if (!text.trim()) {
    const recent = answers.recent(MOST_RECENT);
    state.found = [...new Set([...recent, ...state.found])];
  }
  state.active = 0;
  renderPanel();
  const more = state.found.length - MOST_FOUND;
  byId("found-more").textContent = more > 0 ? `and ${more} more: type to find them` : "";
  byId("found").replaceChildren(...state.found.slice(0, MOST_FOUND).map((index, place) => {
    const option = element("div", "option", classes[index]);
    option.id = `found-${place}`;
    option.dir = "auto";
    option.dataset.index = index;
    option.setAttribute("role", "option");
    return option;
  }));
  if (!state.found.length) {
    byId("found-more").textContent = "No class has such a name.";
    byId("found-more").hidden = false;
  }
  activate(0);
}

function activate(place) {
  const options = byId("found").children;
  state.active = Math.max(0, Math.min(options.length - 1, place));
  [...options].forEach((option, i) => option.setAttribute("aria-selected", String(i === state.active)));
  const option = options[state.active];
  byId("search").setAttribute("aria-activedescendant", option ? option.id : "");
  if (option) {
    option.scrollIntoView({ block: "nearest" });
  }
}

function endSearch() {
  const field = byId("search");
  field.value = "";
  field.removeAttribute("aria-activedescendant");
  if (state.found) {
    state.found = null;
    byId("found").replaceChildren();
    if (document.activeElement === field) {
      field.blur();
    }
  }
}

byId("search").addEventListener("input", find);
byId("search").addEventListener("pointerdown", () => {
  if (!state.found) {
    find();
  }
});
byId("search").addEventListener("keydown", (event) => {
  if (event.isComposing) {
    return;
  }
  const { found, active } = state;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (found) {
      activate(active + (event.key === "ArrowDown" ? 1 : -1));
    } else {
      find();
    }
  } else if (event.key === "Enter" && found && found.length) {
    if (!event.repeat) {
      answerWith(found[active], null);
    }
  } else if (event.key === "Escape") {
    endSearch();
    byId("search").blur();
    render();
  } else {
    return;
  }
  event.preventDefault();
});
byId("found").addEventListener("click", (event) => {
  const option = event.target.closest(".option");
  if (option) {
    answerWith(Number(option.dataset.index), null);
  }
});
byId("end-search").addEventListener("click", () => {
  endSearch();
  render();
});

// ---- Dialogs -------------------------------------------------------------------------------------------------------

let afterName = null;

document.querySelectorAll("[data-close]").forEach((button) => {
  button.addEventListener("click", () => button.closest("dialog").close());
});

function askName(then) {
  afterName = then;
  let last = "";
  try {
    last = (storage && storage.getItem("ccma-label/annotator")) || "";
  } catch {
    // no name to suggest
  }
  byId("name-text").value = last;
  byId("name").showModal();
  byId("name-text").select();
}

function setName(name) {
  state.annotator = name.trim();
  keepSettings();
  keep("ccma-label/annotator", state.annotator);
  renderHeader();
}

byId("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setName(byId("name-text").value);
  byId("name").close();
});
byId("name").addEventListener("close", () => {
  const then = afterName;
  afterName = null;
  restartClock();
  if (then) {
    then();
  }
});
byId("name").addEventListener("cancel", () => {
  afterName = null;
});
byId("rename").addEventListener("submit", (event) => {
  event.preventDefault();
  setName(byId("rename-name").value);
  say(`Your name: ${state.annotator}`);
});

byId("refuse-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const reason = byId("refuse-text").value.trim();
  if (reason) {
    byId("refuse").close();
    answerWith(null, reason);
  }
});

byId("note-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const positions = targets();
  answers.setNote(positions, byId("note-text").value.trim());
  byId("note").close();
  say(`Noted · ${nameOf(positions)}`);
  render();
});

function openRefusal() {
  if (targets().length) {
    byId("refuse-text").value = "";
    byId("refuse").showModal();
  }
}

function openNote() {
  const positions = targets();
  if (positions.length) {
    byId("note-text").value = positions.length === 1 ? answers.note(positions[0]) : "";
    byId("note").showModal();
  }
}

function openSettings() {
  for (const name of ["order", "theme"]) {
    document.querySelectorAll(`input[name=${name}]`).forEach((input) => { input.checked = input.value === state[name]; });
  }
  byId("probabilities").checked = state.probabilities;
  byId("single-keys").checked = state.singleKeys;
  byId("rename").hidden = assignment.annotator !== "";
  byId("rename-name").value = state.annotator;
  byId("settings").showModal();
}

byId("settings").addEventListener("change", ({ target }) => {
  if (target.type === "radio") {
    state[target.name] = target.value;
  } else if (target.type === "checkbox") {
    state[target.id === "single-keys" ? "singleKeys" : "probabilities"] = target.checked;
  }
  keepSettings();
  applyTheme();
  render();
});

function showDone() {
  const { nNew } = answers;
  byId("done-text").textContent = nNew
    ? `${nNew} of the answers are not exported yet. Export them, and hand in the file.`
    : "All answers are exported. They can still be changed.";
  if (!byId("done").open) {
    byId("done").showModal();
  }
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const system = dark.matches ? "dark" : "light";
  document.documentElement.dataset.theme = state.theme === "system" ? system : state.theme;
}

dark.addEventListener("change", applyTheme);

// ---- Export --------------------------------------------------------------------------------------------------------

function exportAnswers() {
  if (!state.annotator && !assignment.annotator) {
    askName(download);
  } else {
    download();
  }
}

function download() {
  const content = answers.exportedBy(state.annotator);
  const file = new Blob([`${JSON.stringify(content, null, 1)}\n`], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  const who = state.annotator.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  const when = localTime(Date.now()).slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
  link.download = ["answers", assignment.campaign.slice(0, 8), who, when].filter(Boolean).join("-") + ".json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say(`Exported ${content.answers.length} answers to ${link.download}`);
  render();
}

window.addEventListener("beforeunload", (event) => {
  if (!answers.isSaved && answers.nNew) {
    event.preventDefault();
    event.returnValue = "";
  }
});

// ---- Zoom ----------------------------------------------------------------------------------------------------------

const zoom = { factor: 1, drag: null };

function openZoom() {
  const position = targets()[0];
  if (!pictures.has(position)) {
    say("There is no picture to enlarge.");
    return;
  }
  byId("zoomed-image").src = pictures.get(position);
  byId("zoomed-image").alt = tasks[position].image;
  byId("zoomed").showModal();
  setZoom(1);
  byId("zoomed-area").focus();
}

/** Enlarge by a factor of what fits, and keep what is in the middle there. */
function setZoom(factor) {
  const area = byId("zoomed-area");
  const image = byId("zoomed-image");
  const { naturalWidth: width, naturalHeight: height } = image;
  if (!width) {
    image.addEventListener("load", () => setZoom(factor), { once: true });
    return;
  }
  const before = zoom.factor;
  zoom.factor = Math.max(1, Math.min(16, factor));
  const middle = [area.scrollLeft + area.clientWidth / 2, area.scrollTop + area.clientHeight / 2];
  const fit = Math.min(area.clientWidth / width, area.clientHeight / height);
  image.style.width = `${Math.floor(width * fit * zoom.factor)}px`;
  image.style.height = `${Math.floor(height * fit * zoom.factor)}px`;
  area.scrollLeft = (middle[0] * zoom.factor) / before - area.clientWidth / 2;
  area.scrollTop = (middle[1] * zoom.factor) / before - area.clientHeight / 2;
}

byId("zoom-in").addEventListener("click", () => setZoom(zoom.factor * 1.5));
byId("zoom-out").addEventListener("click", () => setZoom(zoom.factor / 1.5));
byId("zoomed").addEventListener("keydown", (event) => {
  if (event.key === "+" || event.key === "=") {
    setZoom(zoom.factor * 1.5);
  } else if (event.key === "-") {
    setZoom(zoom.factor / 1.5);
  } else if (keyOf(event) === "z") {
    byId("zoomed").close();
  } else {
    return;
  }
  event.preventDefault();
});
byId("zoomed-area").addEventListener("wheel", (event) => {
  event.preventDefault();
  setZoom(zoom.factor * (event.deltaY < 0 ? 1.2 : 1 / 1.2));
}, { passive: false });
byId("zoomed-area").addEventListener("pointerdown", (event) => {
  if (event.pointerType === "mouse") {
    zoom.drag = { x: event.clientX, y: event.clientY };
    event.currentTarget.setPointerCapture(event.pointerId);
    event.preventDefault();
  }
});
byId("zoomed-area").addEventListener("pointermove", (event) => {
  if (zoom.drag) {
    event.currentTarget.scrollLeft -= event.clientX - zoom.drag.x;
    event.currentTarget.scrollTop -= event.clientY - zoom.drag.y;
    zoom.drag = { x: event.clientX, y: event.clientY };
  }
});
byId("zoomed-area").addEventListener("pointerup", () => { zoom.drag = null; });
byId("zoomed-area").addEventListener("pointercancel", () => { zoom.drag = null; });

// ---- Pointers and fingers ------------------------------------------------------------------------------------------

/** The start of a touch on the picture: a swipe goes back or forward, as turning a page does. */
let touch = null;

byId("picture").addEventListener("touchstart", (event) => {
  const isOne = event.touches.length === 1 && (window.visualViewport?.scale ?? 1) < 1.05;
  touch = isOne ? { x: event.touches[0].clientX, y: event.touches[0].clientY } : null;
}, { passive: true });
byId("picture").addEventListener("touchend", (event) => {
  if (touch) {
    const x = event.changedTouches[0].clientX - touch.x;
    const y = event.changedTouches[0].clientY - touch.y;
    touch = null;
    if (Math.abs(x) > 60 && Math.abs(x) > 2 * Math.abs(y)) {
      step(x < 0 ? 1 : -1);
    }
  }
}, { passive: true });
byId("image").addEventListener("click", openZoom);

for (const list of ["choices", "recent"]) {
  byId(list).addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) {
      answerWith(Number(button.dataset.index), null);
    }
  });
}

/** One of the classes takes the focus by Tab, the others by arrows. */
byId("choices").addEventListener("keydown", (event) => {
  const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) {
    return;
  }
  const buttons = [...event.currentTarget.children];
  const at = buttons.indexOf(document.activeElement);
  const next = buttons[Math.max(0, Math.min(buttons.length - 1, at + steps[event.key]))];
  buttons[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  event.preventDefault();
});

// ---- Keys ----------------------------------------------------------------------------------------------------------

/** What a key means: digits also where they need Shift, letters also on keyboards of other scripts. */
function keyOf(event) {
  if (event.key.length > 1 || /[0-9./?]/.test(event.key)) {
    return event.key;
  }
  if (/[a-z]/i.test(event.key)) {
    return event.key.toLowerCase();
  }
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  if (digit && !event.shiftKey) {
    return digit[1];
  }
  const letter = /^Key([A-Z])$/.exec(event.code);
  return letter && event.key > "~" ? letter[1].toLowerCase() : event.key;
}

function toggleProbabilities() {
  state.probabilities = !state.probabilities;
  keepSettings();
  render();
}

function answerAsLast() {
  const [last] = answers.recent(1);
  if (last === undefined) {
    say("No class was used yet.");
  } else {
    answerWith(last, null);
  }
}

function openSearch() {
  byId("search").focus();
  find();
}

const cannotTell = () => answerWith(null, assignment.refusals.cannotTell);
const noClass = () => answerWith(null, assignment.refusals.noClass);

const COMMANDS = {
  "/": openSearch,
  "?": () => byId("help").showModal(),
  ".": answerAsLast,
  c: cannotTell,
  g: () => showGrid(!state.isGrid),
  n: openNote,
  o: goToOpen,
  p: toggleProbabilities,
  r: openRefusal,
  u: undo,
  x: noClass,
  z: openZoom,
};

const BUTTONS = {
  "to-grid": COMMANDS.g,
  "to-settings": openSettings,
  "to-help": COMMANDS["?"],
  export: exportAnswers,
  "select-all": () => grid.selectAll(),
  "select-none": () => {
    grid.clear();
    render();
  },
  "open-one": () => showGrid(false),
  "to-probabilities": toggleProbabilities,
  "cannot-tell": cannotTell,
  "no-class": noClass,
  "other-refusal": openRefusal,
  back: () => step(-1),
  forward: () => step(1),
  undo,
  "to-note": openNote,
  "to-zoom": openZoom,
  "next-open": goToOpen,
  "done-export": () => {
    byId("done").close();
    exportAnswers();
  },
  "done-review": () => {
    byId("done").close();
    if (!state.isGrid) {
      showGrid(true);
    }
  },
};

document.addEventListener("keydown", (event) => {
  const isOver = document.querySelector("dialog[open]") !== null;
  const isTyping = event.target.closest && event.target.closest("input, textarea, select") !== null;
  if (event.defaultPrevented || event.isComposing || isOver || isTyping || event.altKey) {
    return;
  }
  const pressed = keyOf(event);
  if (event.ctrlKey || event.metaKey) {
    if (pressed === "z" && !event.shiftKey) {
      event.preventDefault();
      undo();
    }
    return;
  }
  if (pressed === "ArrowLeft" || pressed === "ArrowRight") {
    step(pressed === "ArrowLeft" ? -1 : 1);
  } else if (pressed === "Escape" && state.found) {
    endSearch();
    render();
  } else if (!state.singleKeys) {
    return;
  } else if (!runKey(pressed, event.repeat)) {
    return;
  }
  event.preventDefault();
});

/** Do what a single key means; one that is held does it once, so that it does not answer image after image. */
function runKey(pressed, isHeld) {
  const place = CHOICE_KEYS.indexOf(pressed);
  const choice = place >= 0 && !state.found ? state.offer.classes[place] : undefined;
  if (!choice && !(pressed in COMMANDS)) {
    return false;
  }
  if (!isHeld) {
    (choice ? () => answerWith(choice.index, null) : COMMANDS[pressed])();
  }
  return true;
}

// ---- Start ---------------------------------------------------------------------------------------------------------

readSettings();
applyTheme();

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("script[data-picture]").forEach((part) => {
    pictures.set(Number(part.dataset.picture), part.textContent);
    part.remove();
  });
  let wasEmpty = true;
  grid = new Grid(tasks, pictures, () => {
    if (wasEmpty || grid.selected.size === 0) {
      restartClock(); // time counts from the first image that was selected
    }
    wasEmpty = grid.selected.size === 0;
    render();
  }, (position) => {
    grid.at = position;
    showGrid(false);
  });
  for (const [id, run] of Object.entries(BUTTONS)) {
    byId(id).addEventListener("click", run);
  }
  byId("filter").addEventListener("change", render);
  state.at = nextOpen([]) ?? 0;
  restartClock();
  render();
  if (!state.annotator) {
    askName(null);
  }
});
