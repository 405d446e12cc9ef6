"use strict";
// What another threshold would do, by the scores on the page.
for (const box of document.querySelectorAll(".threshold")) {
  const own = JSON.parse(box.dataset.own), others = JSON.parse(box.dataset.others);
  const slider = box.querySelector("input"), percent = (part, whole) => (100 * part / Math.max(1, whole)).toFixed(1) + " %";
  const say = () => {
    const from = 100 * slider.value, above = scores => scores.filter(score => score >= from).length;
    const found = above(own), wrong = above(others);
    box.querySelector("output").value = slider.value;
    box.querySelector(".said").textContent = `“${box.dataset.name}” found: ${percent(found, own.length)} `
      + `(${own.length - found} of ${own.length} missed) · false alarms: ${percent(wrong, others.length)} (${wrong} of `
      + `${others.length}) · right: ${percent(found + others.length - wrong, own.length + others.length)}`;
  };
  slider.addEventListener("input", say);
  say();
  box.hidden = false;
}
// Pictures open large on a click or with the Enter key.
const dialog = document.querySelector("dialog"), large = dialog.appendChild(document.createElement("img"));
for (const image of document.querySelectorAll("main img")) {
  image.tabIndex = 0;
  image.addEventListener("click", () => { large.src = image.src; large.alt = image.alt; dialog.showModal(); });
  image.addEventListener("keydown", event => { if (event.key === "Enter") image.click(); });
}
dialog.addEventListener("click", () => dialog.close());
// Called by run.js, which lies beside the page on the machine that made it: minutes, day and commit of these results, and tuning.
function run(found) {
  if (found.of !== document.body.dataset.of) return;
  for (const cell of document.querySelectorAll("[data-stages]")) {
    const stages = cell.dataset.stages.split(" ").filter(Boolean);
    if (stages.length && stages.every(stage => stage in found.seconds)) {
      const seconds = stages.reduce((sum, stage) => sum + found.seconds[stage], 0);
      cell.textContent = (seconds / 60).toFixed(1);
    }
  }
  for (const note of document.querySelectorAll(".untimed")) note.remove();
  const tried = document.querySelector("#tried");
  for (const line of found.tried) tried.querySelector("ul").appendChild(document.createElement("li")).textContent = line;
  tried.hidden = !found.tried.length;
  document.querySelector("#when").textContent = ` · ${found.date}` + (found.commit ? ` · commit ${found.commit}` : "");
}
