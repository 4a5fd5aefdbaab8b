// What buttons, dialogs, pointers and fingers do.

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
    byId("found-more").textContent = "No class has such a name. If one is missing, name it by “Another reason …”.";
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

for (const id of ["refuse-text", "note-text"]) {
  byId(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId(id).form.requestSubmit();
    }
  });
}

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
