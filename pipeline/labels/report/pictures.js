"use strict";
// Pictures of every page: labels that keep their size, and a picture enlarged.
const pictures = (() => {
  const dialog = document.getElementById("large");
  const stage = dialog.querySelector(".stage");
  const cards = [...document.querySelectorAll(".card")];
  const LABEL_HEIGHT = 17; // as in drawing.py

  // Labels keep their size on the screen, and stay inside the picture, however large it is shown.
  // Of two that meet, the one of the higher score, which comes first, stays.
  function fit(svg) {
    const shown = svg.getBoundingClientRect(), { width, height } = svg.viewBox.baseVal;
    if (!shown.width) return;
    const scale = Math.max(width / shown.width, height / shown.height), tall = LABEL_HEIGHT * scale;
    const taken = [];
    for (const label of svg.querySelectorAll(".label:not(.off)")) {
      const [left, top, bottom, length] = ["x", "y", "bottom", "length"].map((k) => +label.dataset[k]);
      const long = length * scale, x = Math.max(0, Math.min(left, width - long));
      const beside = top >= tall ? top - tall : bottom - top > 2 * tall ? top : bottom;
      const y = Math.max(0, Math.min(beside, height - tall));
      label.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
      const covered = taken.some(([a, b, l]) => x < a + l && a < x + long && Math.abs(y - b) < tall);
      label.classList.toggle("covered", covered);
      if (!covered) taken.push([x, y, long]);
    }
  }
  const watch = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));

  let current = null;
  function enlarge(card) {
    current = card;
    const copy = card.querySelector(".picture").cloneNode(true);
    stage.replaceChildren(copy);
    const name = card.querySelector(".name").title, found = card.querySelector("[data-found]");
    dialog.querySelector(".caption").textContent = found ? `${name}: ${found.textContent}` : name;
    if (!dialog.open) dialog.showModal();
    watch.observe(copy);
  }
  function step(by) {
    const open = cards.filter((c) => c.querySelector(".picture") && !c.classList.contains("away"));
    enlarge(open[(open.indexOf(current) + by + open.length) % open.length]);
  }

  for (const card of cards) {
    const picture = card.querySelector(".picture");
    if (!picture) continue;
    const canvas = picture.parentNode;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "button");
    canvas.setAttribute("aria-label", `Enlarge ${card.querySelector(".name").textContent}`);
    canvas.addEventListener("click", () => enlarge(card));
    canvas.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(card);
    });
    watch.observe(picture);
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || "close" in event.target.dataset) dialog.close();
    else if (event.target.dataset.step) step(+event.target.dataset.step);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => {
    stage.replaceChildren();
    current.querySelector(".canvas").focus();
  });
  document.documentElement.classList.add("js");
  return { cards, fit };
})();
