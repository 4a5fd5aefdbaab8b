"use strict";

// Which classes are offered for images, in which order, and the search over all of them.

/** The likely classes of some images: {index, probability}, by mean probability, the most likely first. */
function likelyClasses(tasks) {
  const sums = new Map();
  for (const task of tasks) {
    for (const [index, probability] of task.likeliest) {
      sums.set(index, (sums.get(index) || 0) + probability / tasks.length);
    }
  }
  return [...sums]
    .map(([index, probability]) => ({ index, probability }))
    .sort((one, other) => other.probability - one.probability);
}

/** A 32-bit number of a text (FNV-1a over its UTF-16 units). */
function hashOf(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}

/** A list in an order that the text alone decides (Fisher and Yates, by Marsaglia's xorshift of 32 bits). */
function shuffled(list, text) {
  const result = [...list];
  let state = hashOf(text) || 1;
  for (let i = result.length - 1; i > 0; i -= 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const j = (state >>> 0) % (i + 1);
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

/** What is offered for some images: the order as it is recorded, and the classes. */
function offered(tasks, order, seed, nClasses) {
  const likely = likelyClasses(tasks);
  if (order === "listed" || likely.length === 0) {
    return { order: "listed", classes: Array.from({ length: nClasses }, (_, index) => ({ index, probability: null })) };
  }
  if (order === "likeliest") {
    return { order, classes: likely };
  }
  return { order, classes: shuffled(likely, [seed, ...tasks.map((task) => task.image)].join("\n")) };
}

/** A text without the differences that a search is not to mind: case, accents, punctuation. */
function folded(text) {
  const plain = text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return plain.replace(/[^\p{L}\p{N}]+/gu, " ").trim() || plain.trim();
}

/** The length of the shortest part of a text that has the letters of a query in their order; 0 where none has. */
function spanOf(query, text) {
  const letters = [...query];
  let best = 0;
  for (let start = text.indexOf(letters[0]); start >= 0; start = text.indexOf(letters[0], start + 1)) {
    let at = start;
    for (const letter of letters.slice(1)) {
      at = text.indexOf(letter, at + 1);
      if (at < 0) {
        return best;
      }
    }
    best = best ? Math.min(best, at + 1 - start) : at + 1 - start;
  }
  return best;
}

/** Finds classes by parts of their names. */
class ClassSearch {
  constructor(names) {
    this.names = names.map(folded);
    this.words = this.names.map((name) => name.split(" "));
  }

  /** Positions of the classes that a query may mean, the closest first. */
  find(text) {
    const query = folded(text);
    if (!query) {
      return this.names.map((_, index) => index);
    }
    const parts = query.split(" ");
    const letters = parts.join("");
    const found = [];
    this.names.forEach((name, index) => {
      const [rank, length] = this.match(index, name, query, parts, letters);
      if (rank < 6) {
        found.push({ index, rank, length });
      }
    });
    found.sort((one, other) => one.rank - other.rank || one.length - other.length || one.index - other.index);
    return found.map((match) => match.index);
  }

  /** How closely a name matches, 0 for the same and 6 for not at all; and a length, the shorter the closer. */
  match(index, name, query, parts, letters) {
    if (name === query) {
      return [0, 0];
    }
    if (name.startsWith(query)) {
      return [1, name.length];
    }
    if (parts.every((part) => this.words[index].some((word) => word.startsWith(part)))) {
      return [2, name.length];
    }
    if (name.includes(query)) {
      return [3, name.length];
    }
    if (parts.every((part) => name.includes(part))) {
      return [4, name.length];
    }
    const span = spanOf(letters, name);
    return span ? [5, span] : [6, 0];
  }
}
