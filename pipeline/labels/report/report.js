(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const slider = document.getElementById("threshold");
  const category = document.getElementById("category");
  const { cards, fit } = pictures;
  const TOP = 20, BOTTOM = 162, SCORE_BAR = 5; // as in charts.py, distributions.py

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const whole = new Intl.NumberFormat("en");
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 2 });
  const boxes = (n) => `${whole.format(n)} ${n === 1 ? "box" : "boxes"}`;

  function percent(part, total) { // as in text.py
    const share = total ? (100 * part) / total : 0;
    if (share > 0 && share < 0.1) return "under 0.1\u00a0%";
    if (share > 99.9 && share < 100) return "over 99.9\u00a0%";
    return `${share.toFixed((share > 0 && share < 1) || (share > 99 && share < 100) ? 1 : 0)}\u00a0%`;
  }

  function write(name, words) {
    for (const place of document.querySelectorAll(`[data-text="${name}"]`)) place.textContent = words;
  }

  function draw(id, values) {
    const chart = document.getElementById(id);
    const highest = Math.max(...values) || 1;
    chart.querySelectorAll(".bar").forEach((bar, i) => {
      const height = ((BOTTOM - TOP) * values[i]) / highest;
      const [title, rect, words] = bar.children;
      title.textContent = title.textContent.replace(/[^:]*$/, ` ${whole.format(values[i])}`);
      rect.setAttribute("y", BOTTOM - height);
      rect.setAttribute("height", height);
      words.setAttribute("y", BOTTOM - height - 4);
      if (!chart.querySelector(".peak")) words.textContent = values[i] ? short.format(values[i]) : "";
    });
    const peak = chart.querySelector(".peak");
    if (peak) peak.textContent = `highest bar: ${whole.format(Math.max(...values))}`;
  }

  function drawScores(at, chosen) {
    const values = Array(20).fill(0);
    for (const [place, counts] of Object.entries(data.scores)) {
      if (chosen !== "-1" && place !== chosen) continue;
      counts.forEach((n, bin) => { values[Math.min(Math.floor(bin / SCORE_BAR), 19)] += n; });
    }
    draw("scores", values);
    document.querySelectorAll("#scores .bar").forEach((bar, i) => {
      bar.classList.toggle("below", (i + 1) * SCORE_BAR <= at);
    });
    document.querySelector("#scores .limit").setAttribute("transform", `translate(${at * 4})`);
  }

  function count(at) {
    const total = {};
    for (const [place, counts] of Object.entries(data.scores)) total[place] = sum(counts.slice(at));
    const most = Math.max(...Object.values(data.scores).map(sum), 1);
    for (const line of document.querySelectorAll("[data-category]")) {
      const n = total[line.dataset.category];
      line.querySelector(".n").textContent = whole.format(n);
      line.querySelector(".now").setAttribute("width", `${(100 * n) / most}%`);
    }
    const sizes = data.sizes[0].map((_, side) => sum(data.sizes.slice(at).map((row) => row[side])));
    const all = sum(sizes), small = sum(sizes.slice(0, data.small)), large = sum(sizes.slice(data.large));
    draw("sizes", sizes);
    draw("per-image", data.perImage[at]);
    write("threshold", (at / 100).toFixed(2));
    write("shown", whole.format(all));
    write("with", percent(data.ok - data.perImage[at][0], data.ok));
    write("empty", whole.format(data.perImage[at][0]));
    write("small", percent(small, all));
    write("medium", percent(all - small - large, all));
    write("large", percent(large, all));
  }

  function filter(at, chosen) {
    for (const card of cards) {
      let shown = 0;
      for (const part of card.querySelectorAll(".box, .label")) {
        const on = +part.dataset.b >= at && (chosen === "-1" || part.dataset.c === chosen);
        part.classList.toggle("off", !on);
        shown += on && part.matches(".box");
      }
      const found = card.querySelector("[data-found]"), lowest = card.querySelector(".box");
      // where the lowest box that is drawn is in view, some of those that are not may be too
      const more = lowest && +lowest.dataset.b >= at && card.querySelector("[data-best]");
      if (found && lowest) found.textContent = boxes(shown) + (more ? " or more" : "");
      card.classList.toggle("away", chosen !== "-1" && !shown);
      card.querySelectorAll(".picture").forEach(fit);
    }
    for (const gallery of document.querySelectorAll(".gallery")) {
      const all = gallery.querySelectorAll(".card").length;
      const left = all - gallery.querySelectorAll(".card.away").length;
      const name = category.selectedOptions[0].textContent;
      gallery.querySelector("[data-in-view]").textContent =
        chosen === "-1" ? "" : `${left} of these ${all} pictures show ${name}.`;
    }
  }

  function update() {
    const at = +slider.value;
    slider.setAttribute("aria-valuetext", (at / 100).toFixed(2));
    count(at);
    drawScores(at, category.value);
    filter(at, category.value);
  }

  slider.addEventListener("input", update);
  category.addEventListener("change", update);
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  update();
})();
