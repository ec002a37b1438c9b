"use strict";
(async () => {
  const unpacked = (data) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  };
  let page = await unpacked(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, words, name) => {
    const node = document.createElement(tag);
    if (words != null) node.textContent = words;
    if (name) node.className = name;
    return node;
  };

  // Tables: from columns to one object per row. Each chart gets copies, since Vega writes to its rows.
  const rowsOf = ({ n, columns }) => {
    const rows = Array.from({ length: n }, () => ({}));
    for (const [column, { values, levels, codes }] of Object.entries(columns))
      for (let i = 0; i < n; i++)
        rows[i][column] = values ? values[i] : codes[i] < 0 ? null : levels[codes[i]];
    return rows;
  };
  const tablesOf = (content) =>
    Object.fromEntries(Object.entries(content.tables).map(([name, table]) => [name, rowsOf(table)]));
  let tables = tablesOf(page);
  let trials = tables.trials || [];

  // Charts are drawn when they come near the window, and again where the page turns dark or light.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();
  let picked = { all: true };
  const themed = (spec) => {
    let found = JSON.stringify(spec);
    if (dark.matches)
      for (const [light, other] of Object.entries(page.dark))
        found = found.replaceAll(`"${light}"`, `"${other}"`);
    return JSON.parse(found);
  };
  const hint = (element) => element.toggleAttribute("data-scrolls", element.scrollWidth > element.clientWidth + 1);
  const hints = () => document.querySelectorAll(".scroll").forEach(hint);
  hints();
  // In a narrow window, names beside rows are in lines of this many letters, and the rows are higher.
  const letters = 24;
  const lineHeight = 12;
  const piece = `.{1,${letters}}$|.{0,${letters - 1}}[\\s_+\\-/]|.{${letters}}`;
  const inLines = (node, chart) => {
    if (!node || typeof node !== "object") return;
    const { x, y } = node;
    if (y && y.type === "nominal" && y.axis !== null && (!x || x.type !== "nominal")) {
      const words = y.axis?.labelExpr ?? "datum.label";
      const labelExpr = `split(trim(replace(${words}, regexp(${JSON.stringify(piece)}, 'g'), '$&\\n')), '\\n')`;
      y.axis = { ...y.axis, labelExpr, labelLimit: letters * 7, labelLineHeight: lineHeight };
      const rows = Array.isArray(y.sort) ? y.sort : [];
      const counted = words === "datum.label" ? "" : " (000)";  // of trials
      const lines = Math.max(1, ...rows.map((row) => (row + counted).match(RegExp(piece, "g")).length));
      if (lines > 1) chart.height = Math.max(chart.height, rows.length * (lineHeight * lines + 6));
    }
    for (const child of Object.values(node)) inLines(child, chart);
  };
  // Letters of the longest name in a legend.
  const longest = (node) => {
    if (!node || typeof node !== "object") return 0;
    const names = [node.color, node.shape].flatMap((channel) => channel?.scale?.domain ?? []);
    return Math.max(0, ...names.map((name) => String(name).length), ...Object.values(node).map(longest));
  };
  // A name that is cut is whole in its tooltip.
  const nameCut = (element) => {
    for (const node of element.querySelectorAll("svg text")) {
      const whole = node.__data__?.text;
      if (typeof whole !== "string" || node.textContent === whole || !node.textContent.endsWith("…")) continue;
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = whole;
      node.append(title);
      node.style.pointerEvents = "auto";
    }
  };
  const draw = async (element) => {
    const { figure } = element.dataset;
    const { spec, tables: names } = page.figures[figure];
    const many = names.some((name) => tables[name].length > 1500);
    const chart = themed(spec);
    const room = element.clientWidth;
    chart.config.background = "transparent"; // the page has its own, and the shadow of what scrolls
    if (room < 480) {
      const columns = longest(chart) * 7 < room / 2 - 50 ? 2 : 1;
      chart.config.legend = { ...chart.config.legend, columns, labelLimit: room / columns - 50 };
      inLines(chart, chart);
    }
    const fixed = typeof chart.width === "number" && !chart.hconcat && !chart.concat;
    const matrix = figure === "confusion" && chart.mark?.type !== "bar";
    if (fixed && !matrix && figure !== "parallel") chart.autosize = { type: "fit-x", contains: "padding" };
    // Drawn again, a chart keeps its height meanwhile, and the rectangle that selects its trials.
    element.style.minHeight = element.dataset.drawn ? `${element.offsetHeight}px` : "";
    if (element === brushing && brush)
      for (const param of chart.params.filter(({ name }) => name === "brush"))
        param.value = Object.fromEntries(brush.fields.map(({ channel }, i) => [channel, brush.values[i]]));
    if (chart.autosize) chart.width = Math.max(300, ["recall_change", "importance"].includes(figure) ? Math.min(room, chart.width + 80) : room);
    const { view } = await vegaEmbed(element, chart, {
      actions: false, renderer: many ? "canvas" : "svg", tooltip: { theme: dark.matches ? "dark" : "light" },
      patch: (vega) => {
        for (const source of vega.data)
          if (names.includes(source.name)) source.values = tables[source.name].map((row) => ({ ...row }));
        return vega;
      },
    });
    const drawn = { view, linked: JSON.stringify(spec).includes('"picked"') };
    if (drawn.linked) view.signal("picked", picked);
    await view.runAsync();
    for (const mark of element.querySelectorAll('[role="graphics-symbol"]:not([aria-label])'))
      mark.setAttribute("aria-hidden", "true");  // rules and brushes, which say nothing aloud
    nameCut(element);
    if (JSON.stringify(spec).includes('"brush"'))
      view.addDataListener("brush_store", (_, tuples) => brushed(element, tuples));
    views.get(element)?.view.finalize();
    views.set(element, drawn);
    element.style.minHeight = "";
    element.dataset.drawn = "yes";
    hint(element);
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries)
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
  }, { rootMargin: "400px" });
  const observe = () => document.querySelectorAll("[data-figure]:not([data-drawn])").forEach((element) => seen.observe(element));
  observe();
  dark.addEventListener("change", () => [...views.keys()].forEach(draw));
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    hints();
    clearTimeout(draw.timer);
    draw.timer = setTimeout(() => [...views.keys()].forEach(draw), 200);
  });

  // What is selected: the filters, and what is dragged over in one chart.
  const filters = { preset: "", method: "", state: "" };
  let brush = null;
  let brushing = null;
  const unbrush = () => { // take the rectangle away
    const view = views.get(brushing)?.view;
    for (const side of ["brush_x", "brush_y"])
      if (view && side in view.getState().signals) view.signal(side, [0, 0]);
    view?.runAsync();
    brush = brushing = null;
  };
  const brushed = (element, tuples) => {
    if (brushing !== element) {
      if (!tuples.length) return;
      unbrush();
    }
    brushing = element;
    brush = tuples.length ? tuples[0] : null;
    clearTimeout(brushed.timer);
    brushed.timer = setTimeout(select, 60);
  };
  const inBrush = (row) =>
    brush.fields.every(({ field }, i) => {
      const value = row[field.replaceAll("\\", "")];
      const [a, b] = brush.values[i];
      return value != null && value >= Math.min(a, b) && value <= Math.max(a, b);
    });
  const isPicked = (row) => {
    const [column, ...rest] = filters.method.split("=");
    if (filters.preset === "any" && row.preset == null) return false;
    if (filters.preset === "none" && row.preset != null) return false;
    if (filters.preset.startsWith("=") && row.preset !== filters.preset.slice(1)) return false;
    if (filters.method && row[column] !== rest.join("=")) return false;
    if (filters.state && row.state !== filters.state) return false;
    return !brush || inBrush(row);
  };
  const select = () => {
    const whole = !brush && !filters.preset && !filters.method && !filters.state;
    const rows = whole ? trials : trials.filter(isPicked);
    picked = whole ? { all: true } : Object.fromEntries(rows.map((row) => [row.trial, true]));
    for (const { view, linked } of views.values()) if (linked) view.signal("picked", picked).runAsync();
    $("picked").textContent = whole ? `${trials.length} trial${trials.length === 1 ? "" : "s"}` : `${rows.length} of ${trials.length} trials`;
    $("clear").disabled = whole;
    fill(rows);
  };

  // The table: the first 100 selected trials, with their configuration.
  const most = 100;
  const number = (value, digits) => (value == null ? "–" : value.toFixed(digits).replace("-", "−"));
  const rank = (row) => [row.final, row.full, row.score].map((value) => value ?? -Infinity);
  const named = (words) => {  // a long name may be broken after "_" and "+"
    const cell = make("td", null, "name");
    for (const piece of words.match(/[^_+]*[_+]?/g)) cell.append(piece, make("wbr"));
    return cell;
  };
  const opened = new Set(); // trials whose configuration is shown
  const fill = (rows) => {
    if (!$("table")) return;
    const better = (a, b) => {
      const [x, y] = [rank(a), rank(b)];
      return y[0] - x[0] || y[1] - x[1] || y[2] - x[2] || a.trial - b.trial;
    };
    const body = $("table").tBodies[0];
    body.replaceChildren();
    for (const row of [...rows].sort(better).slice(0, most)) {
      const line = make("tr", null, { winner: "winner", "best preset": "baseline" }[row.kind]);
      const button = make("button", "Open");
      button.type = "button";
      button.setAttribute("aria-label", `Open trial ${row.trial}`);
      const show = (open) => {
        button.setAttribute("aria-expanded", String(open));
        button.textContent = open ? "Close" : "Open";
        if (open) line.after(details(row));
      };
      button.onclick = () => {
        const open = opened.delete(row.trial);
        if (open) line.nextSibling.remove();
        else opened.add(row.trial);
        show(!open);
      };
      const last = make("td");
      last.append(button);
      line.append(
        make("td", row.trial, "n"), named(row.name + (row.preset ? " (preset)" : "")),
        make("td", row.state, "state"), make("td", number(row.score, 4), "n"), make("td", row.budget, "n"),
        make("td", number(row.final, 4), "n"), last,
      );
      line.id = `trial-${row.trial}`;
      body.append(line);
      show(opened.has(row.trial));
    }
    hints();
    $("shown").textContent = rows.length > most ? `The first ${most} of ${rows.length}.` : rows.length ? "" : "No trial is selected.";
  };
  const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);
  const details = (row) => {
    const cell = make("td");
    cell.colSpan = 7;
    const list = make("dl", null, "knobs");
    for (const [name, column] of page.knobs) {
      const pair = make("div", null, row[column] == null ? "off" : "");
      const value = row[column] == null ? "does not act" : typeof row[column] === "number" ? String(+row[column].toPrecision(4)) : row[column];
      const complement = page.complement.includes(name) && row[column] != null;
      pair.append(make("dt", complement ? `1 − ${name}` : name), make("dd", value));
      list.append(pair);
    }
    cell.append(list);
    if (row.error) cell.append(make("p", row.error, "quiet"));
    const step = (words, what) => {
      const line = make("p", null, "does");
      line.append(make("code", words.map(quoted).join(" ")), " ", make("span", what));
      cell.append(line);
    };
    const training = page.trainings[row.trial];
    if (training) step(training, "trains it on all training data, and tests it");
    step([...page.command, String(row.trial)], "trains it as the search did");
    const line = make("tr", null, "more");
    line.append(cell);
    return line;
  };

  // The filters, with the presets, methods and states that there are; on a live page there may be more later.
  const options = (id, heading, pairs) => {
    const node = $(id);
    const all = [["", heading], ...pairs];
    if (node.options.length !== all.length)
      node.replaceChildren(...all.map(([value, words]) => {
        const option = make("option", words);
        option.value = value;
        return option;
      }));
    node.value = filters[id.slice(2)];
    node.onchange = () => {
      filters[id.slice(2)] = node.value;
      select();
    };
  };
  const values = (column) => [...new Set(trials.map((row) => row[column]).filter((v) => v != null))].sort();
  const fillFilters = () => {
    if (!$("clear") || !trials.length) return;
    options("f-preset", "Presets and others", [
      ["any", "All presets"], ["none", "No presets"], ...values("preset").map((name) => [`=${name}`, name]),
    ]);
    options("f-method", "Every method", page.slots.flatMap(([slot, column]) =>
      values(column).map((value) => [`${column}=${value}`, `${slot}: ${value}`])));
    options("f-state", "Every state", values("state").map((state) => [state, state]));
    $("clear").onclick = () => {
      for (const id of ["f-preset", "f-method", "f-state"]) $(id).value = "";
      Object.assign(filters, { preset: "", method: "", state: "" });
      unbrush();
      select();
    };
    document.querySelector(".filters").hidden = false;
    select();
  };
  fillFilters();
  // A live page: new data for the table and the charts that are drawn. Filters, selections and the window stay.
  window.imbtuneUpdate = async (data, replace) => {
    const { figures: before } = page;
    page = await unpacked(data);
    tables = tablesOf(page);
    trials = tables.trials || [];
    window.imbtuneInPlace(() => {
      replace();
      const spec = JSON.stringify(page.figures[brushing?.dataset.figure]?.spec ?? "");
      const isThere = brushing?.isConnected && (brush?.fields ?? []).every(({ field }) => spec.includes(`"${field}"`));
      if (!isThere) brush = brushing = null; // a panel may be of another knob now
      fillFilters();
    });
    for (const [element, { view }] of [...views]) {
      const name = element.dataset.figure;
      if (!element.isConnected || !page.figures[name]) {
        view.finalize();
        views.delete(element);
      } else if (JSON.stringify(page.figures[name]) !== JSON.stringify(before[name])) {
        await draw(element);
      } else {
        for (const table of page.figures[name].tables)
          view.change(table, vega.changeset().remove(() => true).insert(tables[table].map((row) => ({ ...row }))));
        await view.runAsync();
      }
    }
    observe();
    hints();
  };
  document.documentElement.dataset.ready = "yes";
})();
