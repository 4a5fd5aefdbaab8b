// What is seen: the header, the image or the grid, and the panel of the answer.

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
