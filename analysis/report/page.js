"use strict";
/* Interactive parts: the constraint, the selected point and the bars follow the slider. */
(() => {
const nonce = document.currentScript.nonce;
const $ = (id) => document.getElementById(id);
const ACCENT = "#dd6430", GREY = "#85898f", COOL = ["#3f9bbf", "#6a5bc4"];
const ROUNDING = 1e-12; // as in analysis.selection
const MOST_BARS = 30;
const SPLITS = ["val", "test"], WHERE = { val: "validation", test: "test" };
// Values of the grid in a panel: on validation those that the rule used, which may be estimates.
const shownOf = (split) => data.pareto.grid[split === "val" && data.pareto.estimated ? "sure" : split];
const CONFIG = { displayModeBar: false, responsive: true, showTips: false };
// The payload; the chosen combination; the slider's margin, null for the selection's own rule; the
// combination that a click has pinned, null for none.
let data, chosen, margin, pinned = null;

const inflate = async (id) => {
  const bytes = Uint8Array.from(atob($(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};
// Plotly interprets some HTML in texts, so texts from records are escaped.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const percent = (value, digits = 1) => (value == null ? "–" : (100 * value).toFixed(digits));
const points = (value) => {
  if (value == null) return "–";
  const shown = (100 * value).toFixed(1);
  return +shown === 0 ? "0.0" : shown.replace("-", "−").replace(/^(?=\d)/, "+");
};
// Differences of percentages as they are shown, so that the figures add up.
const difference = (after, before) => (after == null || before == null ? "–" : points((percent(after) - percent(before)) / 100));
const element = (tag, text, attributes = {}) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.textContent = text;
  return made;
};
const coarse = matchMedia("(pointer: coarse)").matches;

/* ---- The choice: the selection's rule, with one margin for all ---------------------------- */

const choice = (points) => {
  let found = data.choices[0][1];
  for (const [needed, index] of data.choices) if (needed <= points / 100 + ROUNDING) found = index;
  return found;
};
const givenUp = () => +($("margin").value * data.step).toFixed(2);

const choose = () => {
  chosen = pinned ?? (margin === null ? data.pareto.selected : choice(margin));
  const { grid: g, worst } = data.pareto;
  const own = $("given-up").dataset.default, shown = margin === null ? +own : margin;
  const some = shown < 0 ? `${(-shown).toFixed(2)} points more` : `${shown.toFixed(2)} points`;
  const rule = margin === null && own === "" ? "as the selection’s own rule has it" : some;
  const words = pinned === null ? rule : "pinned by hand";
  $("given-up").textContent = pinned === null && margin === null && own !== "" ? `${words} (the selection’s own rule)` : words;
  $("rule").hidden = margin === null && pinned === null;
  const name = g.name[chosen];
  $("margin").setAttribute("aria-valuetext", `${words}: ${name}`);
  $("chosen").replaceChildren(element("b", name));
  if (chosen === data.pareto.reference) $("chosen").append(" – that is standard distillation");

  const figures = SPLITS.flatMap((split) => [["worst", worst], ["average", "average"]].map(([key, title]) => {
    const values = shownOf(split)[key], value = element("dd", `${percent(values[chosen])}%`), group = document.createElement("div");
    value.append(element("small", difference(values[chosen], values[data.pareto.reference])));
    group.append(element("dt", `${title}, ${WHERE[split]}${split === "val" && data.pareto.estimated ? ", estimated" : ""}`), value);
    return group;
  }));
  $("chosen-figures").replaceChildren(...figures);
  $("choice").dataset.chosen = chosen; // for tests, and for style sheets
  const level = data.asked === null || words !== some ? null : 100 * data.asked - shown;
  for (const split of SPLITS) {
    const plot = $(`pareto-${split}`);
    plot.setAttribute("aria-label", finding(split));
    if (!plot.data) continue;
    // Update only the shapes, so that ten thousand points are not redrawn when one moves.
    const asked = split === "val" && level !== null ? [constraint(level)] : [];
    Plotly.relayout(plot, { shapes: [...asked, ...marker(split), ...marks(split)] });
  }
  drawBars();
};

const finding = (split) => {
  const shown = shownOf(split), { worst, reference } = data.pareto;
  const figures = (i) => `${worst} ${percent(shown.worst[i])}%, average ${percent(shown.average[i])}%`;
  return `On ${WHERE[split]}: chosen ${figures(chosen)}; standard distillation ${figures(reference)}. The left and right arrow keys move along the frontier, Enter pins.`;
};

/* ---- The Pareto figure ------------------------------------------------------------------- */

const constraint = (level) => ({
  type: "line", x0: level, x1: level, y0: 0, y1: 1, yref: "paper",
  line: { width: 1, dash: "4px,3px", color: GREY },
});
const marker = (split) => {
  const shown = shownOf(split), at = (name) => 100 * shown[name][chosen];
  const ends = (name) => {
    const error = shown[`${name}_se`]?.[chosen] ?? 0;
    return shown[`${name}_interval`]?.map((end) => 100 * end[chosen]) ?? [at(name) - 100 * error, at(name) + 100 * error];
  };
  const [x, y] = [at("average"), at("worst")], [[x0, x1], [y0, y1]] = [ends("average"), ends("worst")];
  const bar = (corners) => ({ type: "line", ...corners, line: { width: 1.3, color: ACCENT } });
  return [bar({ x0, x1, y0: y, y1: y }), bar({ x0: x, x1: x, y0, y1 }), {
    name: "chosen", type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor: x, yanchor: y,
    x0: -7, x1: 7, y0: -7, y1: 7, fillcolor: ACCENT, line: { width: 0 },
  }];
};
const marks = (split) => {
  const { reference } = data.pareto, shown = shownOf(split);
  const [low, high] = around(shown.average), middle = 50 * (low + high); // labels point inward
  const label = (index, text, other) => {
    const x = 100 * shown.average[index], y = 100 * shown.worst[index];
    const up = y >= 100 * shown.worst[other], x1 = x > middle ? -46 : 46, y1 = up ? 34 : -50;
    return {
      type: "line", xsizemode: "pixel", ysizemode: "pixel", xanchor: x, yanchor: y,
      x0: x1 / 5, y0: y1 / 5, x1, y1, line: { width: 1, color: GREY },
      label: { text, textposition: "end", textangle: 0, xanchor: "center", yanchor: up ? "bottom" : "top", font: { size: 12.5 } },
    };
  };
  if (chosen === reference) return [label(chosen, "standard distillation", chosen)];
  return [label(reference, "standard distillation", chosen), label(chosen, "chosen", reference)];
};
const describe = (table, name, i) => {
  const seeds = `${table.seeds[i]} seed${table.seeds[i] === 1 ? "" : "s"}`;
  const figures = (values) => `${plain(data.pareto.worst)} ${percent(values.worst[i])}%, average ${percent(values.average[i])}%`;
  const worst = (split) => `worst is ${plain(data.pareto.names[table[split].worst_class[i]])}`;
  const lines = [`<b>${plain(name)}</b>, ${seeds}`, ...SPLITS.map((split) => `${WHERE[split]}: ${figures(table[split])}; ${worst(split)}`)];
  if (table.sure) lines.push(`other images: ${figures(table.sure)}; best of all with ${percent(table.sure.best[i], 0)}%`);
  return lines.join("<br>");
};
const coloured = () => {
  const name = $("colour").value, values = data.pareto.grid[name];
  const known = values.filter((v) => v !== null);
  const low = Math.min(...known), high = Math.max(...known);
  const ramp = $("ramp");
  ramp.replaceChildren(...(known.length ? [element("span", low), element("i", "", { className: "scale" }), element("span", high)] : []));
  if (known.length) ramp.children[1].style.background = `linear-gradient(90deg, ${COOL.join()})`;
  if (known.length < values.length) ramp.append(element("i", "", { className: "small" }), element("span", "standard"));
  return {
    color: values.map((v) => (v === null ? null : v)), cmin: low, cmax: high > low ? high : low + 1,
    colorscale: [[0, COOL[0]], [1, COOL[1]]], showscale: false,
  };
};
const axis = (title) => ({ title: { text: title, font: { size: 12.5 }, standoff: 8 }, tickfont: { size: 12 }, automargin: true, zeroline: false, fixedrange: coarse });
const layout = (extra) => ({
  margin: { l: 44, r: 12, t: 12, b: 40 }, showlegend: false, hovermode: "closest", dragmode: coarse ? false : "zoom",
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hoverlabel: { align: "left", font: { size: 12.5 } }, ...extra,
});
// Ranges are fixed, since automatic ranges would redraw all points when one moves.
const around = (...lists) => {
  const values = lists.flat().filter((v) => v != null);
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const pad = 0.06 * (high - low) || 1;
  return [low - pad, high + pad];
};
// The best is at the top, with its label above it.
const under = ([low, high]) => [low, high + 0.11 * (high - low)];
const drawPareto = (split) => {
  const { grid: g, methods, worst, frontier, reference } = data.pareto;
  const hundred = (values) => values.map((v) => (v == null ? null : 100 * v));
  const x = hundred(shownOf(split).average), y = hundred(shownOf(split).worst);
  const many = x.length > 400;
  const colours = coloured();
  const here = (test) => x.map((_, i) => i).filter((i) => test(colours.color[i] === null));
  const grid = (rows, marker) => ({
    type: "scatter", mode: "markers", x: rows.map((i) => x[i]), y: rows.map((i) => y[i]), meta: "grid", customdata: rows,
    text: rows.map((i) => describe(g, g.name[i], i)), hovertemplate: "%{text}<extra></extra>",
    marker: { size: many ? 5 : 8, opacity: many ? 0.75 : 1, line: { width: 0 }, ...marker },
  });
  const plainRows = here((none) => none), rampRows = here((none) => !none);
  const traces = [
    { type: "scatter", mode: "lines", x: frontier[split].map((i) => x[i]), y: frontier[split].map((i) => y[i]), hoverinfo: "skip", line: { color: GREY, width: 1.3 } },
    grid(plainRows, { color: GREY, size: many ? 4 : 6 }),
    grid(rampRows, { ...colours, color: rampRows.map((i) => colours.color[i]) }),
  ];
  if (methods.variant.length) {
    traces.push({
      type: "scatter", mode: "markers+text", x: hundred(methods[split].average), y: hundred(methods[split].worst),
      text: methods.letter.map(plain), textposition: "middle right", textfont: { size: 12 }, cliponaxis: false,
      hovertext: methods.variant.map((v, i) => describe(methods, v, i)), hovertemplate: "%{hovertext}<extra></extra>",
      marker: { symbol: "x-thin", size: 6, line: { width: 1.3, color: GREY } },
    });
  }
  traces.push(
    { type: "scatter", mode: "markers", x: [x[reference]], y: [y[reference]], hoverinfo: "skip", uid: "standard", marker: { symbol: "circle-open", size: 15, color: GREY, line: { width: 2 } } },
  );
  return Plotly.react($(`pareto-${split}`), traces,
    layout({
      xaxis: { ...axis(`average accuracy on ${WHERE[split]}, %`), range: around(x, hundred(methods[split].average ?? [])) },
      yaxis: { ...axis(`${plain(worst)} on ${WHERE[split]}, %`), range: under(around(y, hundred(methods[split].worst ?? []))) },
    }), CONFIG);
};
const pin = (index) => { pinned = index; choose(); };
const walk = (split) => {
  let at = -1;
  $(`pareto-${split}`).on("plotly_click", ({ points: [point] }) => { if (point.data.meta === "grid") pin(point.customdata); });
  $(`pareto-${split}`).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && at >= 0) pin(data.pareto.frontier[split][at]);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const plot = $(`pareto-${split}`), along = data.pareto.frontier[split];
    at = Math.min(Math.max(at + step, 0), along.length - 1);
    const curve = plot.data.findIndex((trace) => trace.meta === "grid" && trace.customdata.includes(along[at]));
    const point = { curveNumber: curve, pointNumber: plot.data[curve].customdata.indexOf(along[at]) };
    Plotly.Fx.hover(plot, [point]);
    plot.setAttribute("aria-label", plot.data[curve].text[point.pointNumber].replace(/<[^>]*>/g, " "));
  });
};

// Wilson's score interval of a recall among n images.
const wilson = (recall, n) => {
  const z = data.classes.deviate, square = z * z / n, middle = recall + square / 2;
  const half = z * Math.sqrt(recall * (1 - recall) / n + square / (4 * n));
  return [(middle - half) / (1 + square), (middle + half) / (1 + square)];
};

/* ---- Class by class ---------------------------------------------------------------------- */

const drawBars = () => {
  const { names, train, students, teachers, teacher_of: teacherOf } = data.classes;
  const split = $("split").value, order = $("order").value, wanted = $("find").lastElementChild.value.toLowerCase();
  if (!students[chosen]) {
    $("left-out").textContent = "This page has too many combinations to hold the classes of all; those that the slider selects have theirs.";
    return;
  }
  const now = students[chosen][split], before = students[data.pareto.reference][split];
  const taught = teachers[teacherOf[chosen]]?.[split];
  const keys = {
    worst: (i) => now[i], change: (i) => -Math.abs(now[i] - before[i]), train: (i) => train[i], label: (i) => i,
  };
  const there = names.map((_, i) => i).filter((i) => now[i] !== null && names[i].toLowerCase().includes(wanted));
  const rows = there.sort((a, b) => keys[order](a) - keys[order](b) || a - b).slice(0, MOST_BARS);
  const images = data.classes[`${split}_images`];
  const ends = rows.map((i) => wilson(now[i], images[i]));
  const hover = rows.map((i, place) => [`<b>${plain(names[i])}</b>`, `chosen ${percent(now[i])}% (${ends[place].map((end) => percent(end)).join(" to ")})`,
    `standard distillation ${percent(before[i])}%`, ...(taught ? [`its teacher ${percent(taught[i])}%`] : []),
    `${images[i]} images${train ? `, ${train[i]} in training` : ""}`].join("<br>"));
  const y = rows.map((_, place) => place), value = (list) => rows.map((i) => (list[i] === null ? null : 100 * list[i]));
  const common = { y, orientation: "h", hovertemplate: "%{text}<extra></extra>", text: hover, textposition: "none" };
  const mark = (uid, list, marker) => ({ ...common, uid, type: "scatter", mode: "markers", x: value(list), marker, hoverinfo: "skip", hovertemplate: undefined, cliponaxis: false });
  const traces = [{ ...common, type: "bar", x: value(now), marker: { color: ACCENT }, width: 0.45,
    error_x: { type: "data", symmetric: false, array: ends.map(([, high], place) => 100 * (high - now[rows[place]])), arrayminus: ends.map(([low], place) => 100 * (now[rows[place]] - low)), thickness: 1.3, width: 3 } }];
  traces.push(mark("standard", before, { symbol: "circle-open", size: 10, color: GREY, line: { width: 2 } }));
  if (taught) traces.push(mark("teacher", taught, { symbol: "line-ns", size: 9, line: { width: 2, color: GREY } }));
  const short = (name) => plain(name.length > 24 ? `${name.slice(0, 23)}…` : name);
  Plotly.react($("bars"), traces, layout({
    height: 22 * rows.length + 60, dragmode: false, margin: { l: 20, r: 16, t: 4, b: 40 },
    xaxis: { ...axis(`accuracy on ${WHERE[split]}, %`), range: [0, 101], fixedrange: true },
    yaxis: { tickvals: y, ticktext: rows.map((i) => short(names[i])), range: [rows.length - 0.4, -0.6], automargin: true, fixedrange: true, showgrid: false, zeroline: false, ticks: "", tickfont: { size: 12.5 } },
  }), CONFIG);
  const worst = (list) => list.reduce((least, value, i) => (value !== null && (least < 0 || value < list[least]) ? i : least), -1);
  const [lowest, reference] = [worst(now), worst(before)];
  $("bars").setAttribute("aria-label", `On ${WHERE[split]}, the worst class of the chosen combination is ${names[lowest]} with ${percent(now[lowest])}%, that of standard distillation ${names[reference]} with ${percent(before[reference])}%.`);
  const hidden = there.length - rows.length;
  $("left-out").textContent = hidden > 0 ? `${rows.length} of ${there.length} classes, the first in this order` : "";
};

/* ---- Teacher by student ------------------------------------------------------------------ */

const drawGrids = () => {
  const g = data.pareto.grid, key = $("quantity").value, split = $("quantity-split").value;
  const levels = (names, amounts) => {
    const rank = new Map(names.map((name, i) => [name, amounts[i] ?? -1]));
    return [...rank.keys()].sort((a, b) => rank.get(a) - rank.get(b));
  };
  const teachers = levels(g.teacher, g.alpha_t), students = levels(g.student, g.alpha_s);
  const temperatures = [...new Set(g.temperature)].sort((a, b) => a - b);
  const wanted = $("shift").value === "" ? null : +$("shift").value;
  const values = g[split][key].map((v) => 100 * v), here = values.map((_, i) => i).filter((i) => g.shift[i] === wanted);
  const zmin = values.reduce((a, b) => Math.min(a, b)), zmax = values.reduce((a, b) => Math.max(a, b)); // the same colors for all shifts
  const few = teachers.length <= 7;
  const short = (name) => plain(name.replace(/^α.\s=\s/, ""));
  temperatures.forEach((temperature, place) => {
    const id = `grid-${place}`;
    if (!$(id)) $("grids").append(element("div", "", { id, className: "plot" }));
    const z = students.map(() => teachers.map(() => null));
    for (const i of here) if (g.temperature[i] === temperature) z[students.indexOf(g.student[i])][teachers.indexOf(g.teacher[i])] = values[i];
    Plotly.react($(id), [{
      type: "heatmap", z, x: teachers.map((_, i) => i), y: students.map((_, i) => i), zmin, zmax, xgap: 2, ygap: 2, showscale: false,
      colorscale: [[0, "rgba(221,100,48,0.06)"], [1, "rgba(221,100,48,0.85)"]], hoverongaps: false,
      customdata: students.map((s) => teachers.map((t) => `teacher ${plain(t)}, student ${plain(s)}`)),
      hovertemplate: `%{customdata}<br>%{z:.1f}%<extra></extra>`, ...(few ? { texttemplate: "%{z:.0f}" } : {}),
    }], layout({
      height: 78 + 30 * Math.min(students.length, 9), margin: { l: 8, r: 4, t: 26, b: 34 }, dragmode: false,
      title: { text: `temperature ${temperature ?? "–"}`, font: { size: 13 }, x: 0, xref: "paper", y: 1, yref: "container", yanchor: "top", pad: { t: 4 } },
      xaxis: { title: { text: "teacher’s αₜ", font: { size: 12 }, standoff: 4 }, tickvals: teachers.map((_, i) => i), ticktext: teachers.map(short), ticks: "", automargin: true, showgrid: false, zeroline: false, fixedrange: true },
      yaxis: { title: { text: "student’s αₛ", font: { size: 12 }, standoff: 4 }, tickvals: students.map((_, i) => i), ticktext: students.map(short), ticks: "", automargin: true, showgrid: false, zeroline: false, fixedrange: true, autorange: "reversed" },
    }), CONFIG);
    const best = here.filter((i) => g.temperature[i] === temperature).reduce((top, i) => (top < 0 || values[i] > values[top] ? i : top), -1);
    if (best >= 0) $(id).setAttribute("aria-label", `Temperature ${temperature ?? "none"} on ${WHERE[split]}: the highest is ${values[best].toFixed(1)}%, of teacher ${g.teacher[best]}, student ${g.student[best]}.`);
    $(id).setAttribute("role", "img");
  });
};
const offerShifts = () => {
  const strengths = [...new Set(data.pareto.grid.shift)].sort((a, b) => (a ?? -1) - (b ?? -1));
  const offered = strengths.map((s) => element("option", s === null ? "not shifted" : `shifted ${s}`, { value: s ?? "" }));
  $("shift").replaceChildren(...offered);
  $("shift").parentElement.hidden = strengths.length < 2;
};

/* ---- Buckets and gains ------------------------------------------------------------------- */

const drawLines = (id, lines, title, x, extra = {}) => {
  const ends = lines.map((line) => `${line.name} from ${line.y[0]?.toPrecision(3) ?? "–"} to ${line.y.at(-1)?.toPrecision(3) ?? "–"}`);
  $(id).setAttribute("aria-label", `${title}, from the first to the last of ${x.length}: ${ends.join("; ")}.`);
  const width = { selected: 2.5 };
  return Plotly.react($(id), lines.map((line) => ({
    type: "scatter", mode: x.length > 40 ? "lines" : "lines+markers", x, y: line.y, name: plain(line.name), uid: line.key,
    line: { color: line.key === "selected" ? ACCENT : GREY, width: width[line.key] ?? 1.5, dash: line.dash },
    marker: { size: 5, color: line.key === "selected" ? ACCENT : GREY }, hovertemplate: `%{y:.3g}<extra>${plain(line.name)}</extra>`,
  })), layout({
    dragmode: false, margin: { l: 40, r: 8, t: 8, b: 36 }, hovermode: "x unified",
    yaxis: { ...axis(title), fixedrange: true, zeroline: true }, ...extra,
    xaxis: { ...axis(""), fixedrange: true, ...extra.xaxis },
  }), CONFIG);
};
const count = (length) => Array.from({ length }, (_, i) => i + 1);
const drawBuckets = () => {
  if (data.gains) {
    const x = count(data.gains.lines[0].y.length);
    drawLines("gains", data.gains.lines, "points", x, { xaxis: { title: { text: "k worst classes", font: { size: 12.5 } }, ...(x.length > 50 ? { type: "log" } : { tick0: 1, dtick: Math.max(1, Math.ceil(x.length / 12)) }) } });
  }
  const many = { xaxis: { title: { text: "bucket", font: { size: 12.5 } }, dtick: 1 } };
  for (const [group, figures] of [["bucket", data.buckets?.figures], ["regularization", data.regularization]]) {
    for (const [key, { title, lines }] of Object.entries(figures ?? {})) drawLines(`${group}-${key}`, lines, title, count(lines[0].y.length), many);
  }
};

/* ---- All trainings ------------------------------------------------------------------------- */

const FIRST_ROWS = 20, MORE_ROWS = 100, MOST_CURVES = 8;
const COLUMNS = [
  ["", null], ["training", "name"], ["seed", "seed"], ["status", "status"], ["worst, validation", "val_worst"], ["average, validation", "val_average"],
  ["worst, test", "test_worst"], ["average, test", "test_average"], ["seconds", "seconds"], ["run id", "run_id"],
];
let sorted = ["val_worst", -1], length = FIRST_ROWS, drawn = new Set(); // column and direction; rows shown; rows whose curves are drawn
const copy = async (button, text) => {
  try { await navigator.clipboard.writeText(text); } catch {
    const area = element("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = text.slice(0, 8); }, 1500);
};
const cellOf = (t, i, key) => {
  const value = t[key][i];
  if (key === "seconds") return value?.toFixed(1) ?? "–";
  if (/^(val|test)_/.test(key)) return percent(value);
  return value ?? "–";
};
const drawTable = () => {
  const t = data.trainings, words = $("filter").value.toLowerCase().split(",").map((word) => word.trim()).filter(Boolean);
  const text = (i) => `${t.name[i]} ${t.status[i]} seed ${t.seed[i]} ${t.run_id[i]}`.toLowerCase();
  const [key, direction] = sorted, values = t[key];
  const rows = t.run_id.map((_, i) => i).filter((i) => words.every((word) => text(i).includes(word)));
  rows.sort((a, b) => {
    if (values[a] == null || values[b] == null) return (values[a] == null) - (values[b] == null);
    return direction * (values[a] < values[b] ? -1 : +(values[a] > values[b])) || a - b;
  });
  const head = document.createElement("tr");
  for (const [title, column] of COLUMNS) {
    const cell = element("th", "", { scope: "col" });
    if (column) {
      const button = element("button", title, { type: "button", className: "sort" });
      button.addEventListener("click", () => { sorted = [column, sorted[0] === column ? -sorted[1] : column === "name" ? 1 : -1]; drawTable(); $("trainings").querySelector(`[data-column=${column}]`).focus(); });
      button.dataset.column = column;
      cell.append(button);
      if (column === key) cell.setAttribute("aria-sort", direction < 0 ? "descending" : "ascending");
    }
    head.append(cell);
  }
  const body = rows.slice(0, length).map((i) => {
    const row = document.createElement("tr"), first = document.createElement("td");
    if (t.curves[i]) {
      const box = element("input", "", { type: "checkbox", checked: drawn.has(i) });
      box.setAttribute("aria-label", `draw the learning curve of ${t.name[i]}, seed ${t.seed[i]}`);
      box.addEventListener("change", () => {
        if (box.checked) drawn.add(i); else drawn.delete(i);
        if (drawn.size > MOST_CURVES) { drawn.delete([...drawn][0]); drawTable(); }
        drawCurves();
      });
      first.append(box);
    }
    row.append(first);
    for (const [, column] of COLUMNS.slice(1, -1)) row.append(element("td", cellOf(t, i, column)));
    const last = document.createElement("td"), button = element("button", t.run_id[i].slice(0, 8), { type: "button", title: `copy ${t.run_id[i]}` });
    button.addEventListener("click", () => copy(button, t.run_id[i]));
    last.append(button);
    row.append(last);
    return row;
  });
  $("trainings").tHead.replaceChildren(head);
  $("trainings").tBodies[0].replaceChildren(...body);
  $("trainings-count").textContent = rows.length > length ? `the first ${length} of ${rows.length}` : `${rows.length} of ${t.run_id.length}`;
  $("more").hidden = rows.length <= length;
};
const drawCurves = () => {
  const t = data.trainings, area = $("curves-area");
  area.hidden = drawn.size === 0;
  if (area.hidden) return;
  const colors = [ACCENT, "#3f9bbf", "#6a5bc4", GREY, "#3f9d62", "#b8862b", "#c2559d", "#4a7fd4"];
  const rows = [...drawn], line = (i, place, values, dash, name) => ({
    type: "scatter", mode: "lines+markers", x: t.curves[i][0], y: values.map((v) => 100 * v), name: plain(`${t.name[i]}, seed ${t.seed[i]}`),
    line: { color: colors[place], dash, width: 1.8 }, marker: { size: 4, color: colors[place] }, showlegend: name === "worst",
    hovertemplate: `epoch %{x}: ${name} %{y:.1f}%<extra></extra>`,
  });
  Plotly.react($("curves"), rows.flatMap((i, place) => [line(i, place, t.curves[i][1], "solid", "worst"), line(i, place, t.curves[i][2], "dot", "average")]), layout({
    showlegend: true, legend: { orientation: "h", y: -0.25, font: { size: 12 } }, dragmode: false, height: 300 + 20 * rows.length,
    xaxis: { ...axis("epoch"), fixedrange: true }, yaxis: { ...axis("accuracy on validation, %"), fixedrange: true },
  }), CONFIG);
  $("curves").setAttribute("aria-label", rows.map((i) => `${t.name[i]}: ${data.pareto.worst} ${percent(t.curves[i][1].at(-1))}% at epoch ${t.curves[i][0].at(-1)}`).join("; "));
};

/* ---- Sizes ------------------------------------------------------------------------------- */

const drawSizes = () => {
  const s = data.sizes;
  if (!s) return;
  const y = s.worst.map((v) => 100 * v), colors = s.selected.map((is) => (is ? ACCENT : GREY));
  return Plotly.react($("sizes"), [{
    type: "scatter", mode: "markers+text", x: s.parameters, y, text: s.names.map(plain), textposition: "top right", cliponaxis: false,
    marker: { size: 9, color: colors }, textfont: { size: 12.5 },
    error_y: { type: "data", symmetric: false, array: s.high.map((v, i) => 100 * v - y[i]), arrayminus: s.low.map((v, i) => y[i] - 100 * v), color: GREY, thickness: 1.3 },
    hovertemplate: "%{text}<br>%{x:,} parameters<br>%{y:.1f} %<extra></extra>",
  }], layout({
    height: 300, dragmode: false, margin: { l: 44, r: 90, t: 22, b: 40 },
    xaxis: { ...axis("parameters"), type: "log", fixedrange: true }, yaxis: { ...axis(`${plain(data.pareto.worst)}, %`), fixedrange: true },
  }), CONFIG);
};

/* ---- Beginning --------------------------------------------------------------------------- */

// Scale a drawing as a whole on paper, since it is not redrawn for the printer.
const printable = (plot) => {
  const { width, height } = plot._fullLayout ?? {};
  if (!width) return;
  plot.style.setProperty("--ratio", width / height);
  plot.querySelectorAll(".main-svg").forEach((svg) => svg.setAttribute("viewBox", `0 0 ${width} ${height}`));
};
const begin = async (kept) => {
  data = JSON.parse(await inflate("data"));
  if (!window.Plotly) document.head.append(element("script", await inflate("plotly"), { nonce }));
  margin = kept?.margin ?? null;
  chosen = data.pareto.selected;
  const slider = $("margin");
  slider.value = Math.round((margin ?? +$("given-up").dataset.default) / data.step);
  if (margin !== null) margin = givenUp();
  $("changes").replaceChildren(...data.choices.map(([needed]) => element("option", "", {
    value: Math.ceil(100 * needed / data.step - 1e-6),
  })));
  if (!data.classes.train) $("order").querySelector("[value=train]").remove();
  offerShifts();
  CONTROLS.forEach((id, place) => { if (kept?.controls[place]) $(id).value = kept.controls[place]; });
  $("find").lastElementChild.value = kept?.wanted ?? "";
  $("filter").value = kept?.filter ?? "";
  pinned = null;
  drawn = new Set(data.trainings.run_id.map((_, i) => i).filter((i) => kept?.drawn.has(data.trainings.run_id[i]) && data.trainings.curves[i]));
  $("find").hidden = data.classes.names.length <= MOST_BARS;
  for (const split of SPLITS) await drawPareto(split);
  choose();
  slider.addEventListener("input", () => { margin = givenUp(); pinned = null; choose(); });
  $("rule").addEventListener("click", () => { margin = pinned = null; slider.value = Math.round(+$("given-up").dataset.default / data.step); choose(); slider.focus(); });
  $("colour").addEventListener("change", async () => { for (const split of SPLITS) await drawPareto(split); choose(); });
  for (const id of ["split", "order"]) $(id).addEventListener("change", drawBars);
  $("find").addEventListener("input", drawBars);
  $("filter").addEventListener("input", () => { length = FIRST_ROWS; drawTable(); });
  $("more").addEventListener("click", () => { length += MORE_ROWS; drawTable(); });
  for (const id of ["quantity", "quantity-split", "shift"]) $(id).addEventListener("change", drawGrids);
  drawGrids();
  drawBuckets();
  drawTable();
  drawCurves();
  drawSizes();
  SPLITS.forEach(walk);
  document.querySelectorAll(".plot").forEach((plot) => { printable(plot); plot.on?.("plotly_afterplot", () => printable(plot)); });
  document.documentElement.dataset.ready = "yes";
};

/* ---- Served while the sweep runs (analysis.watch): the page is updated in place --------------- */

const CONTROLS = ["colour", "split", "order", "quantity", "quantity-split", "shift"];
const follow = async () => {
  const fetched = async (path) => (await fetch(path, { cache: "no-store" })).text();
  let { version } = document.documentElement.dataset;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 3000));
    try {
      const newest = await fetched("version");
      if (newest === version) continue;
      const page = new DOMParser().parseFromString(await fetched("./"), "text/html");
      if (!page.getElementById("data")) continue;
      version = newest;
      const kept = { margin, controls: CONTROLS.map((id) => $(id).value), wanted: $("find").lastElementChild.value, filter: $("filter").value, drawn: new Set([...drawn].map((i) => data.trainings.run_id[i])) };
      $("data").textContent = page.getElementById("data").textContent;
      document.querySelector("main").replaceWith(page.querySelector("main"));
      await begin(kept);
    } catch { /* the server has stopped, or will return */ }
  }
};
begin().then(() => { if (document.documentElement.dataset.version) follow(); });
})();
