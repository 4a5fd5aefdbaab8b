// What keys do, and the start of the page.

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
