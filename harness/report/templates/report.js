"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  for (const button of all("button.copy")) {
    const code = button.parentElement.querySelector("code");
    const name = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      let told = "Copied";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        told = document.execCommand("copy") ? "Copied" : "Selected";
      }
      button.textContent = told;
      setTimeout(() => { button.textContent = name; }, 1500);
    });
  }

  const filter = document.querySelector(".filter");
  if (!filter) return;
  const cells = all(".cell").map(cell => ({
    cell, outcome: cell.dataset.outcome, words: cell.textContent.toLowerCase(),
    tile: document.querySelector(`.tile[href="#${cell.querySelector(".body").id}"]`),
  }));
  const search = filter.querySelector("input");
  const buttons = all("button", filter);
  const told = filter.querySelector("output");

  const show = () => {
    const sought = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = buttons.filter(each => each.getAttribute("aria-pressed") === "true");
    const outcomes = pressed.map(each => each.value);
    let shown = 0;
    for (const each of cells) {
      const fits = (!outcomes.length || outcomes.includes(each.outcome)) &&
        sought.every(word => each.words.includes(word));
      each.cell.hidden = !fits;
      each.tile?.classList.toggle("faint", !fits);
      shown += fits;
    }
    told.textContent = shown === cells.length ? "" : `${shown} of ${cells.length} cells`;
  };
  filter.hidden = false;
  search.addEventListener("input", show);
  for (const each of buttons) each.addEventListener("click", () => {
    each.setAttribute("aria-pressed", each.getAttribute("aria-pressed") === "true" ? "false" : "true");
    show();
  });
  addEventListener("hashchange", () => {
    const cell = document.getElementById(location.hash.slice(1))?.closest(".cell");
    if (!cell?.hidden) return;
    search.value = "";
    for (const each of buttons) each.setAttribute("aria-pressed", "false");
    show();
    cell.scrollIntoView();
  });
})();
