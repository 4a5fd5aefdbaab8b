// The grid: small pictures of all images, several of which can be selected and answered together.

class Grid {
  /**
   * @param tasks the images
   * @param pictures a map from position to data URI
   * @param onChange called when another image or selection is to be answered
   * @param onOpen called with the position of an image that is to be seen alone
   */
  constructor(tasks, pictures, onChange, onOpen) {
    this.list = document.getElementById("tiles");
    this.tasks = tasks;
    this.pictures = pictures;
    this.onChange = onChange;
    this.onOpen = onOpen;
    this.selected = new Set();
    this.at = 0; // what the keyboard is at
    this.anchor = 0; // where a range begins
    this.visible = [];
    this.tiles = [];
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.list.addEventListener("dblclick", (event) => this.doubleClicked(event));
    this.list.addEventListener("keydown", (event) => this.keyed(event));
    this.list.addEventListener("focusin", (event) => this.focused(event));
  }

  /** The images that an answer is for: all that are selected, or the one that the keyboard is at. */
  get targets() {
    if (this.selected.size) {
      return [...this.selected].sort((one, other) => one - other);
    }
    return this.visible.includes(this.at) ? [this.at] : [];
  }

  build() {
    const near = new IntersectionObserver((entries) => this.draw(entries, near), { root: null, rootMargin: "400px" });
    this.tiles = this.tasks.map((task, position) => {
      const tile = document.createElement("div");
      tile.className = "tile";
      tile.id = `tile-${position}`;
      tile.tabIndex = -1;
      tile.dataset.position = position;
      tile.setAttribute("role", "option");
      const picture = document.createElement(this.pictures.has(position) ? "img" : "span");
      if (this.pictures.has(position)) {
        picture.alt = "";
        picture.decoding = "async";
      } else {
        picture.className = "tile-missing";
        picture.textContent = "no picture";
      }
      const name = document.createElement("span");
      name.className = "tile-name";
      name.dir = "auto";
      name.textContent = task.image;
      const answer = document.createElement("span");
      answer.className = "tile-answer";
      answer.dir = "auto";
      tile.append(picture, answer, name);
      near.observe(tile);
      return tile;
    });
    this.list.append(...this.tiles);
  }

  /** Give pictures that come near to what is seen. */
  draw(entries, near) {
    for (const { isIntersecting, target } of entries) {
      const picture = target.firstChild;
      if (isIntersecting) {
        near.unobserve(target);
        if (picture.tagName === "IMG") {
          picture.src = this.pictures.get(Number(target.dataset.position));
        }
      }
    }
  }

  /** Show the images that a filter keeps. `said` gives the answer to an image as text, "" for none. */
  refresh(said, isShown) {
    if (!this.tiles.length) {
      this.build();
    }
    this.visible = this.tasks.map((_, position) => position).filter(isShown);
    const shown = new Set(this.visible);
    this.selected = new Set([...this.selected].filter((position) => shown.has(position)));
    if (this.visible.length && !shown.has(this.at)) {
      this.at = this.visible.find((position) => position > this.at) ?? this.visible[this.visible.length - 1];
    }
    this.tiles.forEach((tile, position) => {
      const text = said(position);
      const isSelected = this.selected.has(position);
      tile.hidden = !shown.has(position);
      tile.tabIndex = position === this.at ? 0 : -1;
      tile.classList.toggle("answered", text !== "");
      tile.classList.toggle("target", !this.selected.size && position === this.at);
      tile.setAttribute("aria-selected", String(isSelected));
      tile.children[1].textContent = text;
    });
  }

  clear() {
    this.selected.clear();
  }

  selectAll() {
    this.selected = new Set(this.visible);
    this.onChange();
  }

  /** Go to the first image behind the given ones that is shown and that `isOpen` accepts. */
  moveBehind(positions, isOpen) {
    const last = Math.max(...positions);
    this.at = this.visible.find((position) => position > last && isOpen(position)) ??
      this.visible.find(isOpen) ?? this.at;
    this.anchor = this.at;
  }

  focus() {
    const tile = this.tiles[this.at];
    if (tile && !tile.hidden) {
      tile.focus();
    }
  }

  positionOf(event) {
    const tile = event.target.closest(".tile");
    return tile ? Number(tile.dataset.position) : -1;
  }

  focused(event) {
    const position = this.positionOf(event);
    if (position >= 0 && position !== this.at) {
      this.at = position;
      this.onChange();
    }
  }

  clicked(event) {
    const position = this.positionOf(event);
    if (position < 0) {
      return;
    }
    if (event.shiftKey) {
      this.selectRange(position);
    } else {
      this.toggle(position);
    }
  }

  doubleClicked(event) {
    const position = this.positionOf(event);
    if (position >= 0) {
      this.selected.delete(position);
      this.onOpen(position);
    }
  }

  toggle(position) {
    if (!this.selected.delete(position)) {
      this.selected.add(position);
    }
    this.at = position;
    this.anchor = position;
    this.onChange();
  }

  selectRange(position) {
    const [first, last] = [Math.min(this.anchor, position), Math.max(this.anchor, position)];
    this.visible.filter((other) => other >= first && other <= last).forEach((other) => this.selected.add(other));
    this.at = position;
    this.onChange();
  }

  keyed(event) {
    if (event.altKey) {
      return;
    }
    const isCommand = event.ctrlKey || event.metaKey;
    if (isCommand && event.key.toLowerCase() === "a") {
      this.selectAll();
    } else if (isCommand) {
      return;
    } else if (event.key === " ") {
      this.toggle(this.at);
    } else if (event.key === "Enter") {
      this.onOpen(this.at);
    } else if (event.key === "Escape" && this.selected.size) {
      this.clear();
      this.onChange();
    } else if (!this.move(event)) {
      return;
    }
    event.preventDefault();
  }

  /** Move by a key, and select on the way where Shift is held. Whether it was such a key. */
  move(event) {
    const row = this.tilesInRow();
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined) {
      return false;
    }
    const place = this.visible.indexOf(this.at);
    const next = Math.max(0, Math.min(this.visible.length - 1, place + step));
    if (event.shiftKey) {
      this.selected.add(this.at);
      this.selectRange(this.visible[next]);
    } else {
      this.at = this.visible[next];
      this.anchor = this.at;
      this.onChange();
    }
    this.focus();
    return true;
  }

  tilesInRow() {
    const top = this.tiles[this.visible[0]].offsetTop;
    const next = this.visible.findIndex((position) => this.tiles[position].offsetTop !== top);
    return next < 0 ? this.visible.length : next;
  }
}
