"use strict";
// Everything here is comfort: without it the pages show the same, and are refreshed by hand.
// New content comes from the server's own templates, parsed as a document whose scripts never
// run, and is taken over node by node; text becomes text nodes and nothing else.
(() => {
  const main = document.getElementById("main");

  // --- Times: UTC on the page, the browser's own on hover ---------------------------------
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  for (const kind of ["mouseover", "focusin"]) {
    document.addEventListener(kind, (event) => {
      const time = event.target.closest?.("time");
      if (time && !time.title) {
        const moment = new Date(time.dateTime);
        if (!Number.isNaN(moment.valueOf())) time.title = `${local.format(moment)} (${time.dateTime})`;
      }
    });
  }

  // --- Copying commands --------------------------------------------------------------------
  function showCopyButtons() {
    if (navigator.clipboard) {
      for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
    }
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button) {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    }
    for (const open of document.querySelectorAll("details.command[open], details.custom[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const open of document.querySelectorAll("details.command[open], details.custom[open]")) {
      open.open = false;
      open.firstElementChild.focus();
    }
  });

  // --- Charts ------------------------------------------------------------------------------
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const COLOURS = { requests: "--accent", errors: "--bad", p50: "--p50", p95: "--p95", p99: "--p99" };
  const UNITS = {
    per_second: (value) => `${value >= 10 ? Math.round(value) : Number(value.toPrecision(2))}/s`,
    ratio: (value) => `${Number((value * 100).toPrecision(3))} %`,
    seconds: (value) => (value >= 1 ? `${Number(value.toPrecision(3))} s` : `${Number((value * 1000).toPrecision(3))} ms`),
  };
  const plots = new Map();

  function readout(unit) {
    const box = document.createElement("div");
    box.className = "readout";
    box.hidden = true;
    return {
      hooks: {
        init: (plot) => plot.over.append(box),
        setCursor: (plot) => {
          const { idx, left } = plot.cursor;
          box.hidden = idx == null || left < 0;
          if (box.hidden) return;
          const at = new Date(plot.data[0][idx] * 1000).toISOString();
          const values = plot.series.slice(1).map((series, i) => {
            const value = plot.data[i + 1][idx];
            return `${series.label} ${value == null ? "–" : unit(value)}`;
          });
          box.textContent = [`${at.slice(0, 10)} ${at.slice(11, 19)} UTC`, ...values].join("\n");
          const right = left < plot.over.clientWidth / 2;
          box.style.left = right ? `${left + 10}px` : "";
          box.style.right = right ? "" : `${plot.over.clientWidth - left + 10}px`;
        },
      },
    };
  }

  // Points are drawn only where a value has no neighbours, which no line would show.
  function lonely(plot, series) {
    const values = plot.data[series];
    return values.flatMap((value, i) => (
      value != null && values[i - 1] == null && values[i + 1] == null ? [i] : []
    ));
  }

  const decades = (plot, splits) => splits.map(
    (value) => (Number.isInteger(Number(Math.log10(value).toFixed(6))) ? value : null),
  );

  function draw(element) {
    const chart = JSON.parse(element.dataset.chart);
    const data = [chart.x, ...chart.lines.map((line) => line.values)];
    const known = plots.get(element);
    if (known) {
      known.setData(data);
      return;
    }
    const unit = UNITS[chart.unit];
    const axis = {
      stroke: css("--quiet"),
      grid: { stroke: css("--faint"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const options = {
      width: element.clientWidth,
      height: element.clientHeight,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      padding: [8, 8, 0, 0],
      cursor: { sync: { key: "overview" }, drag: { x: true, y: false }, points: { size: 6 } },
      // Durations of one service span milliseconds to seconds: by their order of magnitude.
      scales: { y: chart.unit === "seconds" ? { distr: 3 } : { range: (plot, low, high) => [0, high > 0 ? high * 1.1 : chart.unit === "ratio" ? 0.1 : 1] } },
      axes: [
        { ...axis, space: 70, size: 26, values: [
          [86400, "{MMM} {D}", null, null, null, null, null, null, 1],
          [3600, "{HH}:{mm}", "\n{MMM} {D}", null, "\n{MMM} {D}", null, null, null, 1],
          [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
        ] },
        { ...axis, size: 54, space: 34, ...(chart.unit === "seconds" ? { grid: { ...axis.grid, filter: decades } } : {}), values: (plot, splits) => splits.map((value) => (value == null ? null : unit(value))) },
      ],
      series: [{}, ...chart.lines.map((line) => ({
        label: line.label,
        stroke: css(COLOURS[line.style]),
        width: 1.5,
        fill: chart.area ? `color-mix(in srgb, ${css(COLOURS[line.style])} 15%, transparent)` : undefined,
        points: { show: true, size: 5, filter: lonely, fill: css(COLOURS[line.style]) },
      }))],
      plugins: [readout(unit)],
      hooks: {
        setSelect: [(plot) => {
          if (plot.select.width < 6) return;
          const [from, to] = [plot.select.left, plot.select.left + plot.select.width]
            .map((x) => new Date(plot.posToVal(x, "x") * 1000).toISOString().slice(0, 19) + "Z");
          const url = new URL(location.href);
          url.searchParams.set("since", from);
          url.searchParams.set("until", to);
          location.assign(url);
        }],
      },
    };
    element.replaceChildren();
    plots.set(element, new uPlot(options, data, element));
  }

  function drawAll() {
    if (typeof uPlot === "undefined") return;
    for (const element of document.querySelectorAll("[data-chart]")) draw(element);
  }
  function redrawAll() {
    for (const [element, plot] of plots) {
      plot.destroy();
      plots.delete(element);
    }
    drawAll();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  let resizing;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => {
      for (const [element, plot] of plots) {
        plot.setSize({ width: element.clientWidth, height: element.clientHeight });
      }
    }, 100);
  });

  // --- Refreshing --------------------------------------------------------------------------
  // Changes what differs and leaves the rest: no flicker, focus and open details stay.
  function takeOver(old, fresh) {
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      const kept = ["open", "hidden", "title"].includes(name) || old === main;
      if (!fresh.hasAttribute(name) && !kept) old.removeAttribute(name);
    }
    if (old.hasAttribute("data-keep")) return;
    const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
    after.forEach((node, i) => {
      const there = before[i];
      if (!there) old.append(document.importNode(node, true));
      else if (there.nodeName !== node.nodeName) there.replaceWith(document.importNode(node, true));
      else if (node.nodeType === Node.TEXT_NODE) {
        if (there.nodeValue !== node.nodeValue) there.nodeValue = node.nodeValue;
      } else if (node.nodeType === Node.ELEMENT_NODE) takeOver(there, node);
    });
    for (const there of before.slice(after.length)) there.remove();
  }

  // An address of this page's own: a document, parsed and never run.
  async function ask(url) {
    const response = await fetch(url, { headers: { Accept: "text/html" }, redirect: "error" });
    if (response.status === 401 || response.status === 403) location.reload();
    if (!response.ok) throw new Error(`status ${response.status}`);
    return [new DOMParser().parseFromString(await response.text(), "text/html"), response];
  }

  // Asks again and again, while somebody looks; `again` returns the seconds to wait.
  function keepAsking(seconds, again) {
    const stale = document.getElementById("stale");
    let failures = 0;
    let timer;
    const run = async () => {
      try {
        seconds = await again() ?? seconds;
        failures = 0;
      } catch {
        failures += 1;
      }
      stale.hidden = failures < 2;
      plan(seconds * 2 ** Math.min(failures, 4));
    };
    const plan = (wait) => {
      clearTimeout(timer);
      if (!document.hidden) timer = setTimeout(run, wait * 1000);
    };
    document.addEventListener("visibilitychange", () => plan(0.2));
    plan(seconds);
  }

  if (main?.dataset.refresh) {
    keepAsking(Number(main.dataset.refresh), async () => {
      const [page] = await ask(main.dataset.live);
      const fresh = page.querySelector("main");
      takeOver(main, fresh);
      showCopyButtons();
      drawAll();
      return Number(fresh.dataset.refresh);
    });
  }

  // --- The log grows -----------------------------------------------------------------------
  const MOST_ROWS = 500;
  const rows = document.getElementById("rows");
  const follow = document.getElementById("follow");
  if (rows?.dataset.live && follow) {
    follow.parentElement.hidden = false;
    follow.checked = true;
    keepAsking(2, async () => {
      if (!follow.checked) return;
      const url = new URL(rows.dataset.live, location.href);
      url.searchParams.set("place", rows.dataset.place);
      const [page, response] = await ask(url);
      const place = response.headers.get("X-Log-Place");
      if (!place) {
        location.reload();
        return;
      }
      rows.dataset.place = place;
      const fresh = [...page.querySelectorAll("li[id]")].filter((row) => !document.getElementById(row.id));
      rows.prepend(...fresh.map((row) => {
        const node = document.importNode(row, true);
        node.classList.add("new");
        return node;
      }));
      while (rows.children.length > MOST_ROWS) rows.lastElementChild.remove();
      if (fresh.length) document.querySelector(".panel > .empty")?.remove();
    });
  }

  showCopyButtons();
  drawAll();
})();
