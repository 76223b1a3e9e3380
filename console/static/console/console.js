// The console's own script: copy buttons, greying out live parts that stopped updating, keeping disclosures open.
// Pages work without it: the copy buttons stay hidden and live parts show when they were last true.
"use strict";

(() => {
  const reveal = (root) => {
    if (!navigator.clipboard) return;
    for (const button of root.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const word = button.dataset.word || (button.dataset.word = button.textContent);
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    setTimeout(() => { button.textContent = word; }, 2000);
  });

  const live = (event) => event.target instanceof Element ? event.target.closest("[hx-get]") : null;
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => live(event)?.classList.add("stale"));
  }
  // A live part that is drawn again keeps open what the person opened in it.
  let open = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    open = Array.from(event.target.querySelectorAll("details[open][id]"), (details) => details.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    open = [];
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target instanceof Element) {
      event.target.closest("[hx-get]")?.classList.remove("stale");
      reveal(event.target.parentElement || document);
    }
  });
  document.addEventListener("DOMContentLoaded", () => reveal(document));
})();
