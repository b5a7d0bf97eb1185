// Small conveniences of every page: fresh times, copying, one open menu at a time. Nothing here is needed for reading.
"use strict";

document.documentElement.classList.remove("no-js");

const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["h", 3600], ["min", 60]];

function ago(seconds) {
  for (const [unit, length] of UNITS) {
    const count = Math.floor(seconds / length);
    if (count >= 1) return `${count} ${unit}${count > 1 && unit !== "h" && unit !== "min" ? "s" : ""} ago`;
  }
  return "just now";
}

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
  if (hours) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  const rest = Math.floor(seconds % 60);
  return minutes ? `${minutes} min ${String(rest).padStart(2, "0")} s` : `${rest} s`;
}

function secondsSince(text) {
  return Math.max(0, (Date.now() - Date.parse(text)) / 1000);
}

function refreshTimes() {
  for (const element of document.querySelectorAll("time[data-ago]")) {
    element.textContent = ago(secondsSince(element.dateTime));
  }
}

function refreshDurations() {
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = duration(secondsSince(element.dataset.since));
  }
}

setInterval(refreshTimes, 30000);
setInterval(refreshDurations, 1000);

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const field = document.getElementById(copy.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  }
  for (const open of document.querySelectorAll("details.drop[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.drop[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-submit-on-change]");
  if (form) form.requestSubmit();
});
