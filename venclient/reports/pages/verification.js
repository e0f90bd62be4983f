"use strict";
// The verification page: what a search leaves.

function filter() {
  const wanted = byId("find").value.trim().toLowerCase();
  const has = shown => shown.textContent.toLowerCase().includes(wanted);
  for (const row of byId("vens").tBodies[0].rows) {
    row.hidden = !row.classList.contains("total") && !(has(row.cells[0]) && (!byId("problems").checked || "problem" in row.dataset));
  }
  for (const load of document.querySelectorAll(".group")) load.hidden = !has(load.firstElementChild);
}

byId("find").oninput = byId("problems").onchange = filter;
markDrawn();
