"use strict";

// ---- Claims: a click opens a row, the filters hide rows.
const table = document.getElementById("claims-table");
const claims = [...table.querySelectorAll("tbody")];

function toggle(body) {
  const open = body.firstElementChild.classList.toggle("open");
  body.firstElementChild.setAttribute("aria-expanded", open);
  body.lastElementChild.hidden = !open;
}

for (const body of claims) {
  const row = body.firstElementChild;
  row.addEventListener("click", () => toggle(body));
  row.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      toggle(body);
    }
  });
}

function filter() {
  const verdict = document.getElementById("by-verdict").value;
  const where = document.getElementById("by-where").value;
  const words = document.getElementById("by-text").value.toLowerCase();
  let shown = 0;
  for (const body of claims) {
    const fits =
      (!verdict || body.dataset.verdict === verdict) &&
      (!where || body.dataset.where === where) &&
      (!words || body.textContent.toLowerCase().includes(words));
    body.hidden = !fits;
    shown += fits;
  }
  document.getElementById("shown").textContent = `${shown} of ${claims.length}`;
}

for (const name of ["by-verdict", "by-where", "by-text"]) {
  document.getElementById(name).addEventListener("input", filter);
}
filter();

// ---- Charts: drawn when they come into view, one panel at a time.
const charts = JSON.parse(document.getElementById("charts").textContent);
const config = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
const common = {
  font: { family: "system-ui, DejaVu Sans, sans-serif", size: 13, color: "#1c1c1c" },
  paper_bgcolor: "#fff", plot_bgcolor: "#fff", margin: { l: 70, r: 20, t: 20, b: 55 },
  hovermode: "closest", height: 440, legend: { itemclick: "toggle", itemdoubleclick: "toggleothers" },
};
const grid = { gridcolor: "#e4e4e4", linecolor: "#888", ticks: "outside", zeroline: false };

function draw(box) {
  const chart = charts[box.dataset.chart];
  const panel = chart[Number(box.querySelector("select").value)];
  const layout = { ...common, ...panel.layout };
  layout.xaxis = { ...grid, ...panel.layout.xaxis };
  layout.yaxis = { ...grid, ...panel.layout.yaxis };
  layout.showlegend = panel.data.length > 1;
  Plotly.react(box.querySelector(".plot"), structuredClone(panel.data), layout, config);
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, { rootMargin: "300px" });

for (const box of document.querySelectorAll(".chart")) {
  box.querySelector("select").addEventListener("input", () => draw(box));
  seen.observe(box);
}

// ---- Thoughts: which run is shown.
const source = document.getElementById("thoughts-of");
if (source) {
  const frames = [...document.querySelectorAll("iframe.thoughts")];
  source.addEventListener("input", () => {
    frames.forEach((frame, number) => (frame.hidden = number !== Number(source.value)));
  });
}
