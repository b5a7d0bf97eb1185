// The page of a run: its state follows the run's events, and the log of the chosen step grows as it is written.
"use strict";

(() => {
  const PART_ROWS = 200;
  const ROWS_MAX = 20000;   // beyond, the oldest rows leave the page; they can be loaded again
  const STATE_PAUSE_MS = 250;

  followRun();
  const card = document.getElementById("log-card");
  if (card) new LogView(card).begin();

  // ---- the state of the run ----

  function followRun() {
    const run = document.getElementById("run");
    if (!run || run.dataset.ended === "true") return;
    let waiting = null;
    const refresh = () => {
      waiting ??= setTimeout(() => {
        waiting = null;
        // Not under the hands of somebody who is about to confirm something.
        if (run.querySelector("details.drop[open]")) { refresh(); return; }
        htmx.trigger(run, "run-changed");
      }, STATE_PAUSE_MS);
    };
    let seen = Number(run.dataset.seen);
    whileVisible(() => {
      if (seen === null) return null;
      const events = new EventSource(`${run.dataset.events}?after=${seen}`);
      events.addEventListener("status", (event) => { seen = Number(event.lastEventId); refresh(); });
      events.addEventListener("end", () => { seen = null; events.close(); refresh(); });
      events.addEventListener("denied", () => { events.close(); location.reload(); });
      return events;
    });
    document.body.addEventListener("htmx:afterSwap", () => {
      const state = document.getElementById("state");
      if (state) document.title = state.dataset.title;
    });
  }

  // A browser opens six connections to a host, for all its tabs: one that nobody sees must not hold any.
  function whileVisible(connect) {
    let open = document.hidden ? null : connect();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { open?.close(); open = null; } else { open ??= connect(); }
    });
    return () => { open?.close(); };
  }

  // ---- the log of a step ----

  function LogView(card) {
    const data = card.dataset;
    const log = card.querySelector("#log");
    const earlier = card.querySelector("#log-earlier");
    const later = card.querySelector("#log-later");
    const meta = card.querySelector("#log-meta");
    const end = card.querySelector("#log-end");
    const follow = card.querySelector("#log-follow");
    let firstLine = Number(data.firstLine);
    let nextLine = Number(data.nextLine);
    let style = Ansi.applySgr(Ansi.PLAIN, data.style || "0");
    let partial = "";          // the raw text of the last line, which is not complete yet
    let partialRow = null;
    let pending = [];          // texts that came since the last frame
    let following = false;
    let nextOffset = Number(data.nextOffset);   // null once nothing more will come
    let disconnect = () => {};

    this.begin = async () => {
      follow.addEventListener("click", () => setFollowing(!following));
      card.querySelector("#log-wrap").addEventListener("click", toggleWrap);
      card.querySelector("#log-fold").addEventListener("click", foldAll);
      earlier.querySelector("button").addEventListener("click", loadEarlier);
      later.querySelector("button").addEventListener("click", loadLater);
      log.addEventListener("click", (event) => {
        const row = event.target.closest(".row.group > span")?.parentElement;
        if (row) fold(row, !row.classList.contains("closed"));
      });
      log.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        if (event.target.matches(".row.group > span")) {
          event.preventDefault();
          const row = event.target.parentElement;
          fold(row, !row.classList.contains("closed"));
        }
      });
      for (const row of log.querySelectorAll(".row.group")) makeFoldable(row);
      window.addEventListener("hashchange", showLinked);
      window.addEventListener("wheel", (event) => { if (event.deltaY < 0) setFollowing(false); }, {passive: true});
      window.addEventListener("keydown", (event) => { if (["PageUp", "Home", "ArrowUp"].includes(event.key)) setFollowing(false); });
      // Parts get their true height when they are first drawn, so the end moves after a scroll to it.
      new ResizeObserver(() => { if (following) scrollToEnd(); }).observe(log);
      const linked = await showLinked();
      if (linked === "elsewhere") return;
      if (data.live === "true") {
        disconnect = whileVisible(connect);
        if (!linked) setFollowing(isNearEnd());
      }
    };

    function connect() {
      if (nextOffset === null) return null;
      const stream = new EventSource(`${data.stream}?offset=${nextOffset}`);
      stream.addEventListener("log", (event) => {
        nextOffset = Number(event.lastEventId);
        take(JSON.parse(event.data).text);
      });
      stream.addEventListener("open", () => { meta.textContent = "live"; });
      stream.addEventListener("error", () => { meta.textContent = "reconnecting …"; });
      stream.addEventListener("denied", () => { stream.close(); meta.textContent = "signed out"; });
      stream.addEventListener("end", (event) => {
        stream.close();
        nextOffset = null;
        const ended = JSON.parse(event.data);
        schedule(() => {
          if (partial) { partial = ""; partialRow = null; nextLine += 1; }
          meta.textContent = `ended: ${ended.status}`;
          end.textContent = ended.reason ? `The step ended: ${ended.reason}.` : nextLine === 1 ? "This step wrote nothing." : "";
          follow.hidden = true;
          setFollowing(false, true);
        });
      });
      return stream;
    }

    // Texts are drawn once a frame, so that a chatty step costs one layout and not thousands.
    let frame = null;
    const afterwards = [];

    function take(text) {
      pending.push(text);
      schedule();
    }

    function schedule(then) {
      if (then) afterwards.push(then);
      // A hidden tab has no frames; it still has to keep its memory small.
      frame ??= document.hidden ? setTimeout(draw, 500) : requestAnimationFrame(draw);
    }

    function draw() {
      frame = null;
      const text = pending.join("");
      pending = [];
      if (text) append(text);
      while (afterwards.length) afterwards.shift()();
      if (following) scrollToEnd();
    }

    function append(text) {
      end.textContent = "";
      const lines = (partial + text).split("\n");
      partial = lines.pop();
      if (partialRow && lines.length) { partialRow.remove(); partialRow = null; }
      let rows = document.createDocumentFragment();
      for (const line of lines) {
        const drawn = Ansi.renderLine(line, style);
        style = drawn.style;
        rows.append(makeRow(nextLine++, drawn));
        if (rows.childElementCount >= PART_ROWS) { addRows(rows); rows = document.createDocumentFragment(); }
      }
      addRows(rows);
      if (partial) {
        const drawn = Ansi.renderLine(partial.slice(-30000), style);
        const row = makeRow(nextLine, drawn);
        if (partialRow) partialRow.replaceWith(row); else addRows(fragmentOf(row));
        partialRow = row;
      }
      trim();
    }

    function fragmentOf(row) {
      const fragment = document.createDocumentFragment();
      fragment.append(row);
      return fragment;
    }

    function addRows(rows) {
      while (rows.firstElementChild) {
        let part = log.lastElementChild;
        if (!part || part.childElementCount >= PART_ROWS) {
          part = document.createElement("div");
          part.className = "part";
          log.append(part);
        }
        const closed = isTailClosed(part);
        while (rows.firstElementChild && part.childElementCount < PART_ROWS) {
          const row = rows.firstElementChild;
          if (closed && !row.classList.contains("group")) row.classList.add("folded");
          part.append(row);
        }
      }
    }

    function isTailClosed(part) {
      for (let row = part.lastElementChild ?? part.previousElementSibling?.lastElementChild; row; row = rowBefore(row)) {
        if (row.classList.contains("group")) return row.classList.contains("closed");
        if (!row.classList.contains("folded")) return false;
      }
      return false;
    }

    function rowBefore(row) {
      return row.previousElementSibling ?? row.parentElement.previousElementSibling?.lastElementChild ?? null;
    }

    function rowAfter(row) {
      return row.nextElementSibling ?? row.parentElement.nextElementSibling?.firstElementChild ?? null;
    }

    function makeRow(number, drawn) {
      const row = document.createElement("div");
      row.className = drawn.group ? "row group" : "row";
      row.id = `${data.step}-L${number}`;
      const link = document.createElement("a");
      link.href = `#${row.id}`;
      link.textContent = number;
      const text = document.createElement("span");
      Ansi.fill(text, drawn.pieces);
      row.append(link, text);
      if (drawn.group) makeFoldable(row);
      return row;
    }

    function makeFoldable(row) {
      const text = row.lastElementChild;
      text.tabIndex = 0;
      text.setAttribute("role", "button");
      text.setAttribute("aria-expanded", "true");
    }

    function fold(row, closed) {
      row.classList.toggle("closed", closed);
      row.lastElementChild.setAttribute("aria-expanded", String(!closed));
      for (let next = rowAfter(row); next && !next.classList.contains("group"); next = rowAfter(next)) {
        next.classList.toggle("folded", closed);
      }
    }

    function foldAll(event) {
      const closed = event.currentTarget.getAttribute("aria-pressed") !== "true";
      event.currentTarget.setAttribute("aria-pressed", String(closed));
      for (const row of log.querySelectorAll(".row.group")) fold(row, closed);
    }

    function toggleWrap(event) {
      const wrapped = log.classList.toggle("nowrap") === false;
      event.currentTarget.setAttribute("aria-pressed", String(wrapped));
    }

    function rowCount() {
      return Math.max(0, log.childElementCount - 1) * PART_ROWS;
    }

    function trim() {
      log.classList.toggle("long", nextLine > 99999);
      if (!following && !document.hidden) return;
      while (rowCount() > ROWS_MAX && log.childElementCount > 2) {
        firstLine += log.firstElementChild.childElementCount;
        log.firstElementChild.remove();
      }
      showEdges();
    }

    function showEdges() {
      earlier.hidden = firstLine <= 1;
      earlier.querySelector("#log-earlier-last").textContent = firstLine - 1;
    }

    async function fetchLines(query) {
      const answer = await fetch(`${data.lines}?${query}`, {headers: {accept: "application/json"}});
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      return answer.json();
    }

    function drawPart(window) {
      const lines = window.text.split("\n");
      if (lines.at(-1) === "") lines.pop();
      let now = Ansi.PLAIN, number = window.first_line;
      const parts = document.createDocumentFragment();
      let part = null;
      for (const line of lines) {
        const drawn = Ansi.renderLine(line, now);
        now = drawn.style;
        if (!part || part.childElementCount >= PART_ROWS) {
          part = document.createElement("div");
          part.className = "part";
          parts.append(part);
        }
        part.append(makeRow(number++, drawn));
      }
      return parts;
    }

    async function loadEarlier() {
      const button = earlier.querySelector("button");
      button.disabled = true;
      setFollowing(false);
      try {
        const window_ = await fetchLines(`before=${firstLine}`);
        const anchor = log.firstElementChild;
        const before = anchor ? anchor.getBoundingClientRect().top : 0;
        log.prepend(drawPart(window_));
        if (anchor) window.scrollBy(0, anchor.getBoundingClientRect().top - before);
        firstLine = window_.first_line;
        showEdges();
      } catch (error) {
        meta.textContent = `not loaded: ${error.message}`;
      }
      button.disabled = false;
    }

    async function loadLater() {
      const button = later.querySelector("button");
      button.disabled = true;
      try {
        const window_ = await fetchLines(`start=${nextLine}`);
        log.append(drawPart(window_));
        nextLine = window_.next_line;
        later.hidden = window_.at_end;
      } catch (error) {
        meta.textContent = `not loaded: ${error.message}`;
      }
      button.disabled = false;
    }

    // Shows the line that the address names. Returns whether there is one, and "elsewhere" if other lines had to be
    // loaded in place of the end of the log.
    async function showLinked() {
      const prefix = `#${data.step}-L`;
      const hash = decodeURIComponent(location.hash);
      if (!hash.startsWith(prefix)) return null;
      const number = Number(hash.slice(prefix.length));
      if (!Number.isSafeInteger(number) || number < 1) return null;
      for (const row of log.querySelectorAll(".row.chosen")) row.classList.remove("chosen");
      let row = document.getElementById(hash.slice(1));
      let where = "here";
      if (!row && number < firstLine) {
        nextOffset = null;
        disconnect();
        const window_ = await fetchLines(`start=${Math.max(1, number - 100)}`);
        log.replaceChildren(drawPart(window_));
        firstLine = window_.first_line;
        nextLine = window_.next_line;
        partial = "";
        partialRow = null;
        later.hidden = window_.at_end;
        follow.hidden = true;
        showEdges();
        row = document.getElementById(hash.slice(1));
        where = "elsewhere";
      }
      if (row) {
        setFollowing(false);
        row.classList.add("chosen");
        row.scrollIntoView({block: "center"});
      }
      return where;
    }

    function isNearEnd() {
      return log.getBoundingClientRect().bottom < window.innerHeight * 1.5;
    }

    function setFollowing(on, keepPlace) {
      if (follow.hidden) on = false;
      following = on;
      follow.setAttribute("aria-pressed", String(on));
      if (on && !keepPlace) scrollToEnd();
    }

    function scrollToEnd() {
      const place = card.getBoundingClientRect().bottom - window.innerHeight + 24;
      if (place > 0) window.scrollBy(0, place);
    }
  }
})();
