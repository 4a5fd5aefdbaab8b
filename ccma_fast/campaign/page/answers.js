// The answers: kept in the browser, one entry for each image, so that several tabs of the page can write at once.

/** A random identifier (UUID, version 4); crypto.randomUUID is missing where a page is served without encryption. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A time as ISO 8601 with the zone that the person is in. */
function localTime(milliseconds) {
  const minutes = -new Date(milliseconds).getTimezoneOffset();
  const pad = (number) => String(number).padStart(2, "0");
  const zone = `${minutes < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
  return new Date(milliseconds + minutes * 60000).toISOString().replace("Z", zone);
}

/** The browser's storage; null where it is refused. */
function openStorage() {
  try {
    localStorage.setItem("ccma-label/probe", "1");
    localStorage.removeItem("ccma-label/probe");
    return localStorage;
  } catch {
    return null;
  }
}

/** The later of two records of an image; a rule that all tabs agree on where the times are the same. */
function laterOf(one, other) {
  if (one.stamp !== other.stamp) {
    return one.stamp > other.stamp ? one : other;
  }
  return JSON.stringify(one) >= JSON.stringify(other) ? one : other;
}

/** Whether two records say the same, whenever they were made. */
function sayTheSame(one, other) {
  return one.note === other.note && (one.answer && one.answer.key) === (other.answer && other.answer.key);
}

/**
 * The records of all images.
 *
 * A record is {stamp, answer, note}: when it was made in milliseconds, the answer or null, and the person's note. Of two
 * records of an image the later one counts, also where an answer was undone. An answer is {key, time, label, refusal,
 * seconds, order, shown, probabilities, note}, with classes as positions; it never changes: another answer has another key.
 */
class Answers {
  constructor(assignment, storage, onChange) {
    this.assignment = assignment;
    this.storage = storage;
    this.onChange = onChange; // called when another tab has answered, or what is saved has changed
    this.prefix = `ccma-label/${assignment.campaign}/${assignment.digest}/`;
    this.records = assignment.tasks.map(() => ({ stamp: 0, answer: null, note: "" }));
    this.exported = new Set();
    this.actions = []; // of this tab, for undo
    this.isSaved = false;
    this.synchronise();
    window.addEventListener("storage", (event) => {
      if (event.key === null || event.key.startsWith(this.prefix)) {
        this.synchronise();
        this.onChange();
      }
    });
  }

  answer(position) {
    return this.records[position].answer;
  }

  note(position) {
    return this.records[position].note;
  }

  get nAnswered() {
    return this.records.filter((record) => record.answer).length;
  }

  get nNew() {
    return this.records.filter((record) => record.answer && !this.exported.has(record.answer.key)).length;
  }

  /** Classes in the order of their last use, the latest first. */
  recent(most) {
    const used = this.records.filter((record) => record.answer && record.answer.label !== null);
    used.sort((one, other) => other.stamp - one.stamp);
    return [...new Set(used.map((record) => record.answer.label))].slice(0, most);
  }

  /** Give images the same answer: a label or a refusal, and what the person saw. */
  give(positions, said) {
    this.put(positions, (record, stamp) => ({
      stamp,
      answer: { ...said, key: randomKey(), time: localTime(stamp), note: record.note },
      note: record.note,
    }));
  }

  /** Note something on images; those that are answered get another answer with the note in it. */
  setNote(positions, note) {
    this.put(positions, (record, stamp) => ({
      stamp,
      answer: record.answer && { ...record.answer, key: randomKey(), time: localTime(stamp), note },
      note,
    }));
  }

  put(positions, make) {
    this.synchronise();
    const action = positions.map((position) => {
      const before = this.records[position];
      const after = make(before, Math.max(Date.now(), before.stamp + 1));
      this.records[position] = after;
      return { position, before, after };
    });
    this.actions.push(action);
    this.save(positions);
  }

  /** Take back the last action of this tab. Returns the positions, and why it could not be undone, if so. */
  undo() {
    this.synchronise();
    const action = this.actions[this.actions.length - 1];
    if (!action) {
      return { positions: [], why: "Nothing to undo since the page was opened." };
    }
    const positions = action.map((step) => step.position);
    if (action.some(({ position, after }) => !sayTheSame(this.records[position], after))) {
      this.actions.pop();
      return { positions, why: "Changed in another tab meanwhile: not undone." };
    }
    if (action.some(({ after }) => after.answer && this.exported.has(after.answer.key))) {
      return { positions, why: "Already exported: choose another answer instead of undoing it." };
    }
    this.actions.pop();
    for (const { position, before } of action) {
      this.records[position] = { ...before, stamp: Math.max(Date.now(), this.records[position].stamp + 1) };
    }
    this.save(positions);
    return { positions, why: "" };
  }

  /** The content of the file to export; its answers count as exported from then on. */
  exportedBy(annotator) {
    this.synchronise();
    const { classes, tasks, ...assignment } = this.assignment;
    const answers = [];
    this.records.forEach(({ answer }, position) => {
      if (answer) {
        answers.push({
          ...answer,
          image: tasks[position].image,
          label: answer.label === null ? null : classes[answer.label],
          shown: answer.shown.map((index) => classes[index]),
        });
        this.exported.add(answer.key);
      }
    });
    this.save([]);
    return {
      format: assignment.format,
      version: assignment.version,
      campaign: assignment.campaign,
      assignment: assignment.digest,
      annotator,
      saw: assignment.saw,
      answers,
    };
  }

  /** Save some records, each unless another tab has a later one, and which answers are exported. */
  save(positions) {
    if (!this.isSaved) {
      this.synchronise(); // all that could not be saved before
      return;
    }
    try {
      positions.forEach((position) => this.merge(position));
      this.mergeExported();
    } catch {
      this.isSaved = false;
    }
  }

  /** Take over what other tabs have saved, and save what they do not have. */
  synchronise() {
    try {
      this.records.forEach((_, position) => this.merge(position));
      this.mergeExported();
      this.isSaved = this.storage !== null;
    } catch {
      this.isSaved = false;
    }
  }

  merge(position) {
    const theirs = this.read(position);
    const mine = this.records[position];
    const record = theirs ? laterOf(mine, theirs) : mine;
    this.records[position] = record;
    if (record !== theirs && record.stamp > 0 && this.storage) {
      const text = JSON.stringify(record);
      if (!theirs || text !== JSON.stringify(theirs)) {
        this.storage.setItem(this.prefix + position, text);
      }
    }
  }

  mergeExported() {
    const theirs = this.parsed("exported");
    const known = Array.isArray(theirs) ? theirs : [];
    known.forEach((key) => this.exported.add(key));
    if (this.storage && this.exported.size > known.length) {
      this.storage.setItem(`${this.prefix}exported`, JSON.stringify([...this.exported]));
    }
  }

  /** A record as it is saved; null where there is none that can be understood. */
  read(position) {
    const record = this.parsed(position);
    if (!record || typeof record.stamp !== "number" || typeof record.note !== "string") {
      return null;
    }
    const { answer } = record;
    const isKnown = (index) => Number.isInteger(index) && index >= 0 && index < this.assignment.classes.length;
    const isWhole =
      answer === null ||
      (answer && typeof answer.key === "string" && Array.isArray(answer.shown) && answer.shown.every(isKnown) &&
        (answer.label === null ? typeof answer.refusal === "string" : isKnown(answer.label)));
    return isWhole ? record : null;
  }

  parsed(name) {
    const text = this.storage && this.storage.getItem(this.prefix + name);
    try {
      return text ? JSON.parse(text) : null;
    } catch {
      return null;
    }
  }
}
