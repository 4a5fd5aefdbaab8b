// The page: its state, what the person chose, the time taken, and the way from image to image.

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
