"use strict";
document.documentElement.classList.add("js");
const all = (selector) => Array.from(document.querySelectorAll(selector));
const chart = document.getElementById("chart");
const search = document.getElementById("search");
const noise = document.getElementById("noise");
let zoom = 1;
const setZoom = (value) => {
  zoom = Math.min(64, Math.max(1, value));
  chart.style.setProperty("--zoom", String(zoom));
};
document.getElementById("in").addEventListener("click", () => setZoom(zoom * 2));
document.getElementById("out").addEventListener("click", () => setZoom(zoom / 2));
document.getElementById("whole").addEventListener("click", () => setZoom(1));
const filter = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const step of all(".step")) {
    const text = step.textContent.toLowerCase();
    const quiet = noise.checked && step.dataset.quiet === "1";
    const shown = !quiet && words.every((word) => text.includes(word));
    step.hidden = !shown;
    const bar = document.getElementById("bar-" + step.dataset.step);
    if (bar) bar.classList.toggle("dim", !shown);
  }
};
search.addEventListener("input", filter);
noise.addEventListener("change", filter);
const reveal = () => {
  const step = location.hash && document.getElementById(location.hash.slice(1));
  if (step && step.tagName === "DETAILS") step.open = true;
};
addEventListener("hashchange", reveal);
reveal();
