"use strict";
// In pixels: an A4 page between its margins, and the space between two charts.
const PAPER = 684;
const GAP = 18;
(async () => {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const charts = [...document.querySelectorAll("[data-chart]")];
  const hidden = new Set();
  const touch = matchMedia("(pointer: coarse)").matches;
  const options = { responsive: true, displayModeBar: false };

  const visible = (trace) => !trace.legendgroup || !hidden.has(trace.legendgroup);

  async function draw(place) {
    const { data, layout } = figures[place.dataset.chart];
    // A finger that scrolls the page is not to zoom a chart.
    Object.assign(layout, { autosize: true, showlegend: false, dragmode: touch ? false : "zoom" });
    // The page's own heading stands above it.
    const heading = place.closest("figure").querySelector("h3").textContent;
    for (const { title } of [layout.xaxis, layout.yaxis]) {
      if (title.text === heading) title.text = "";
    }
    await Plotly.newPlot(place, data, layout, options);
  }

  function toggle(button) {
    const name = button.dataset.toggle;
    const shown = hidden.delete(name) || !hidden.add(name);
    button.setAttribute("aria-pressed", String(shown));
    for (const element of document.querySelectorAll("tr[data-variant], figure[data-variant]")) {
      element.classList.toggle("off", hidden.has(element.dataset.variant));
    }
    for (const place of charts) {
      if (place.data) Plotly.restyle(place, { visible: place.data.map(visible) });
    }
  }

  for (const button of document.querySelectorAll("[data-toggle]")) button.addEventListener("click", () => toggle(button));
  for (const place of charts) {
    await draw(place);
    await new Promise((resolve) => setTimeout(resolve));
  }
  // Paper is narrower than a window, and nobody is told how wide: charts get the widths that page.css gives them there.
  addEventListener("beforeprint", () => {
    document.querySelector(".printed").open = true;
    for (const place of charts) {
      const isWide = place.closest(".charts").classList.contains("wide");
      Plotly.relayout(place, { autosize: false, width: isWide ? PAPER : (PAPER - GAP) / 2 });
    }
  });
  addEventListener("afterprint", () => {
    for (const place of charts) Plotly.relayout(place, { autosize: true, width: null });
  });
  document.documentElement.dataset.drawn = "yes";
})().catch((error) => {
  document.documentElement.dataset.drawn = "no";
  for (const place of document.querySelectorAll("[data-chart]")) {
    place.textContent = `This chart cannot be drawn here (${error.message}); its figures stand below it.`;
    place.style.height = "auto";
  }
});
