// Terminal output as safe DOM: the same rules as api/pages/ansi.py, and the same table of cases tests both.
"use strict";

const Ansi = (() => {
  const LINE_CHARACTERS_MAX = 20000;
  const SEQUENCE = /\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -\/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -\/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
  const GROUP = /^(?:\x1b\[36m\+ |::group::|##\[group\])/;
  const GROUP_MARK = /^(?:::group::|##\[group\]|(?:::endgroup::|##\[endgroup\])\s*$)/;
  const LEVELS = [0, 95, 135, 175, 215, 255];
  const ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike", 21: "underline"};
  const OFF = {22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"]};
  const CLASSES = [["bold", "ab"], ["dim", "ad"], ["italic", "ai"], ["underline", "au"], ["strike", "as"]];
  const PLAIN = Object.freeze({foreground: null, background: null});

  function nearest(wanted) {
    const steps = wanted.map((part) => {
      const distances = LEVELS.map((level) => Math.abs(level - part));
      return distances.indexOf(Math.min(...distances));
    });
    const distance = (colour) => colour.reduce((sum, part, place) => sum + (part - wanted[place]) ** 2, 0);
    const average = (wanted[0] + wanted[1] + wanted[2]) / 3;
    const grey = Math.max(0, Math.min(23, roundHalfEven((average - 8) / 10)));
    const level = 8 + 10 * grey;
    if (distance([level, level, level]) < distance(steps.map((step) => LEVELS[step]))) return 232 + grey;
    return 16 + 36 * steps[0] + 6 * steps[1] + steps[2];
  }

  function roundHalfEven(value) {
    const floor = Math.floor(value), rest = value - floor;
    if (rest !== 0.5) return Math.round(value);
    return floor % 2 === 0 ? floor : floor + 1;
  }

  function applySgr(style, parameters) {
    const codes = parameters.replaceAll(":", ";").split(";").map((code) => (code === "" ? 0 : Number(code)));
    let now = {...style};
    for (let place = 0; place < codes.length; ) {
      const code = codes[place++];
      if (code === 38 || code === 48) {
        const key = code === 38 ? "foreground" : "background";
        if (codes[place] === 5 && place + 1 < codes.length) {
          if (codes[place + 1] <= 255) now[key] = codes[place + 1];
          place += 2;
        } else if (codes[place] === 2 && place + 3 < codes.length) {
          now[key] = nearest(codes.slice(place + 1, place + 4).map((part) => Math.min(part, 255)));
          place += 4;
        } else {
          place = codes.length;
        }
      } else {
        now = simple(now, code);
      }
    }
    return now;
  }

  function simple(style, code) {
    if (code === 0) return {...PLAIN};
    if (code in ON) return {...style, [ON[code]]: true};
    if (code in OFF) return {...style, ...Object.fromEntries(OFF[code].map((name) => [name, false]))};
    if (code === 39) return {...style, foreground: null};
    if (code === 49) return {...style, background: null};
    for (const [first, colour, key] of [[30, 0, "foreground"], [40, 0, "background"], [90, 8, "foreground"], [100, 8, "background"]]) {
      if (code >= first && code < first + 8) return {...style, [key]: colour + code - first};
    }
    return style;
  }

  function classes(style) {
    let foreground = style.foreground === null ? null : `f${style.foreground}`;
    let background = style.background === null ? null : `k${style.background}`;
    if (style.inverse) {
      [foreground, background] = [style.background === null ? "fi" : `f${style.background}`, style.foreground === null ? "ki" : `k${style.foreground}`];
    }
    const names = [];
    if (foreground) names.push(foreground);
    if (background) names.push("k", background);
    for (const [name, short] of CLASSES) if (style[name]) names.push(short);
    return names.join(" ");
  }

  // One line without its line feed: what to show, and the style after it.
  function renderLine(text, style) {
    const group = GROUP.test(text);
    const mark = text.match(GROUP_MARK);
    if (mark) text = text.slice(mark[0].length);
    const shown = text.replace(/\r+$/, "").lastIndexOf("\r") + 1;
    const pieces = [];
    let left = LINE_CHARACTERS_MAX, place = 0, now = style;
    const add = (end) => {
      if (end <= place) return;
      const piece = text.slice(Math.max(place, shown), end).slice(0, Math.max(0, left));
      left -= Math.max(0, end - Math.max(place, shown));
      if (piece) pieces.push([piece, classes(now)]);
    };
    for (const match of text.matchAll(SEQUENCE)) {
      add(match.index);
      if (match[1] !== undefined) now = applySgr(now, match[1]);
      place = match.index + match[0].length;
    }
    add(text.length);
    if (left <= 0) pieces.push(["… the line goes on; see the raw log", "more"]);
    return {pieces, group, style: now};
  }

  // Fills an element with text nodes and spans; nothing of the log is ever parsed as HTML.
  function fill(element, pieces) {
    element.replaceChildren(...pieces.map(([text, names]) => {
      if (!names) return document.createTextNode(text);
      const span = document.createElement("span");
      span.className = names;
      span.textContent = text;
      return span;
    }));
  }

  return {PLAIN, applySgr, renderLine, fill};
})();
