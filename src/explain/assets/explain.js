/* The page of one explanation: maps that tell their numbers, and every attention head by head.
 *
 * A panel is a picture with cells over it. The pointer, or the arrow keys when the panel has the focus, move a cursor from
 * cell to cell; an <output> beside it says the number aloud. Tab goes from panel to panel. */
"use strict";
(function () {
  heed.words({
    "What the model attends to: {0}": "模型在看哪里：{0}",
    "The model says: {0}": "模型的回答：{0}",
    "The model says: {0}, and is right": "模型的回答：{0}，正确",
    "The model says: {0}, but it is: {1}": "模型的回答：{0}，其实是：{1}",
    "Explained class": "所解释的类别",
    "Model": "模型",
    "Edited": "改动",
    "true class": "真实类别",
    "No map here is made of attention.": "这里没有由注意力得到的图。",
    "On this picture no map made of attention does better than random cells: do not read it as a reason.":
      "在这张图片上，没有一张注意力图胜过随机选格：不要把它当作理由。",
    "On this picture some maps made of attention do better than random cells and some do not: see the deletion test of each.":
      "在这张图片上，有的注意力图胜过随机选格，有的没有：请看各自的删除检验。",
    "On this picture every map made of attention does better than random cells.": "在这张图片上，每张注意力图都胜过随机选格。",
    "Where the maps point, and how far to trust them": "各图指向哪里，又有多可信",
    "The deletion test replaces cells by the mean picture, those that a map marks first, and watches the class. A map that knows what counts makes it fall sooner than removing cells in random order.":
      "删除检验把格子换成平均图像，先换图中标出的，同时观察该类别的概率。真正知道要点的图，会让概率比随机顺序删除时更早下降。",
    "Attention weights": "注意力权重",
    "The weights of one attention, as the model mixes by them.": "一处注意力的权重，模型正是按它来混合的。",
    "Attention rollout": "注意力展开",
    "Weights of all layers multiplied, half of each layer passing straight on.": "各层权重相乘，每层有一半直接通过。",
    "Gradient × attention": "梯度 × 注意力",
    "Weights that would raise the class if they grew, through all layers.": "增大后会提高该类别的权重，贯穿所有层。",
    "Attention received": "受到的注意",
    "How much weight each cell gets from all queries together.": "所有查询合起来给每个格子多少权重。",
    "Occlusion": "遮挡",
    "How far the class falls when a cell is blanked. Uses no attention.": "遮住一格时该类别下降多少。不用注意力。",
    "Better than random": "胜过随机",
    "No better than random: do not trust this map": "并不胜过随机：不要相信这张图",
    "Worse than random: it points away from what counts": "不如随机：它指向的不是要点",
    "Deletion area {0}, random {1} ± {2}: lower than {3} of {4} random orders. Removing what the map marks makes the class fall.":
      "删除面积 {0}，随机 {1} ± {2}：低于 {4} 次随机顺序中的 {3} 次。删去图中标出的格子，该类别就下降。",
    "Deletion area {0}, random {1} ± {2}: lower than {3} of {4} random orders; to trust it takes 95 % of 19 or more.":
      "删除面积 {0}，随机 {1} ± {2}：低于 {4} 次随机顺序中的 {3} 次；要可信，须在至少 19 次中达到 95 %。",
    "Deletion area {0}, random {1} ± {2}: lower than only {3} of {4} random orders. Removing other cells hurts the class more.":
      "删除面积 {0}，随机 {1} ± {2}：只低于 {4} 次随机顺序中的 {3} 次。删去别的格子，该类别下降得更多。",
    "Deletion test": "删除检验",
    "share of cells removed": "删去的格子所占比例",
    "probability of the class": "该类别的概率",
    "this map": "本图",
    "random cells": "随机选格",
    "Deletion test: area under the class's probability; lower is better": "删除检验：该类别概率曲线下的面积，越低越好",
    "Map": "图",
    "Area": "面积",
    "Random": "随机",
    "Verdict": "结论",
    "What the model loses without each head": "去掉每个头，模型失去什么",
    "One head's weights are zeroed at a time. The loss, cross-entropy of {0}, is {1} with all heads and {2} with none; the effect is what it gains. Heads that do the same work have little effect each.":
      "每次把一个头的权重置零。损失是 {0} 的交叉熵：头都在时为 {1}，全部去掉时为 {2}；效应是损失的增加。做同样工作的几个头，各自的效应都很小。",
    "{0} more heads have less effect.": "另有 {0} 个头效应更小。",
    "Attention": "注意力",
    "Head": "头",
    "Loss without it": "去掉后的损失",
    "Effect": "效应",
    "Every attention, head by head": "每处注意力，逐头查看",
    "The single heads need the page's script.": "查看单个头需要本页的脚本。",
    "One row for each attention, one column for each head. Choose one to see it large.": "每行是一处注意力，每列是一个头。选中即可放大。",
    "Weights are kept as half floats, so three digits hold.": "权重以半精度浮点保存，三位有效数字可靠。",
    "{0} has {1} weights, more than this page keeps: shown is the mean over its queries. The NPZ file has all.":
      "{0} 有 {1} 个权重，超过本页所能保存：这里显示对所有查询的平均。NPZ 文件里有全部。",
    "{0} has {1} weights, more than this page keeps. The NPZ file has them.": "{0} 有 {1} 个权重，超过本页所能保存。NPZ 文件里有。",
    "attention": "注意力",
    "heads, mean": "各头平均",
    "mean": "平均",
    "head {0}": "头 {0}",
    "{0}, {1}": "{0}，{1}",
    "From: which query asks": "从：哪个查询在问",
    "To: where its weights lie": "到：权重落在哪里",
    "This attention has one query: it reads all cells once.": "这处注意力只有一个查询：它把所有格子读一遍。",
    "Only the mean over queries was kept.": "只保存了对查询的平均。",
    "Point at a cell, or use the arrow keys.": "指向一个格子，或使用方向键。",
    "Mean of all queries": "所有查询的平均",
    "mean of all queries": "所有查询的平均",
    "Query: {0}": "查询：{0}",
    "{0}: weight {1}, number {2} of {3}": "{0}：权重 {1}，在 {3} 个中排第 {2}",
    "{0}: {1} % of the map, number {2} of {3}": "{0}：占全图 {1} %，在 {3} 个中排第 {2}",
    "Largest weights:": "最大的权重：",
    "{0}: {1}": "{0}：{1}",
    "row {0}, column {1}": "第 {0} 行第 {1} 列",
    "class token": "类别标记",
    "class token {0}": "类别标记 {0}",
    "position {0}": "位置 {0}",
    "cells of the picture": "图片的格子"
  });

  /* What went into a map is told by the library in words of one form, between paths that stay. */
  const forms = [[/mean of (\d+) heads/g, "$1 个头的平均"], [/head (\d+) of (\d+)/g, "头 $1（共 $2 个）"], [/\b1 head/g, "1 个头"],
    [/read by the class token/g, "由类别标记读取"], [/mean over queries/g, "对查询取平均"],
    [/each of (\d+) x (\d+) cells blanked/g, "逐一遮住 $1 × $2 个格子"]];
  function about(words) {
    return heed.language() === "zh" ? forms.reduce(function (w, f) { return w.replace(f[0], f[1]); }, words) : words;
  }

  const data = JSON.parse(document.getElementById("data").textContent);
  const say = heed.say;
  const ratio = Math.max(1, window.devicePixelRatio || 1);

  /* ---- numbers ---- */

  function halves(base64) {
    const bytes = atob(base64), out = new Float32Array(bytes.length / 2);
    for (let i = 0; i < out.length; i++) {
      const half = bytes.charCodeAt(2 * i) | bytes.charCodeAt(2 * i + 1) << 8;
      const exponent = half >> 10 & 31, fraction = half & 1023;
      const value = exponent === 0 ? fraction * Math.pow(2, -24)
        : exponent === 31 ? (fraction ? NaN : Infinity)
        : (1024 + fraction) * Math.pow(2, exponent - 25);
      out[i] = half & 0x8000 ? -value : value;
    }
    return out;
  }
  function digits(value) {
    if (value === 0) return "0";
    return Math.abs(value) < 0.0001 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
  }
  function largest(values) {
    return values.reduce(function (a, b) { return b > a ? b : a; }, 0);
  }
  function rank(values, i) {
    let before = 1;
    for (let j = 0; j < values.length; j++) if (values[j] > values[i]) before++;
    return before;
  }
  const colours = [];
  for (let i = 0; i < data.colours.length; i += 6) colours.push("#" + data.colours.slice(i, i + 6));
  function colour(share) {
    return colours[Math.max(0, Math.min(colours.length - 1, Math.round(share * (colours.length - 1)))) || 0];
  }

  function element(name, attributes, children) {
    const e = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { e.setAttribute(key, attributes[key]); });
    (children || []).forEach(function (c) { e.append(c); });
    return e;
  }

  /* ---- cells and their names ---- */

  /* Keys or queries of an attention: tokens before the picture, then cells row by row; without a grid, lines of 16. */
  function cellsOf(count, first, rows, cols) {
    if (rows * cols > 0 && first + rows * cols === count)
      return { count: count, first: first, rows: rows, cols: cols, onPicture: data.picture };
    const wide = Math.min(16, count);
    return { count: count, first: 0, rows: Math.ceil(count / wide), cols: wide, onPicture: false, plain: true };
  }
  function nameOf(cells, i) {
    if (cells.plain) return say("position {0}", i + 1);
    if (i < cells.first) return cells.first === 1 ? say("class token") : say("class token {0}", i + 1);
    const at = i - cells.first;
    return say("row {0}, column {1}", Math.floor(at / cells.cols) + 1, at % cells.cols + 1);
  }

  /* ---- a panel ---- */

  /* options: label; weights (are drawn here, else a map lies below already); numbers (in large cells); moved(i). */
  function Panel(box, cells, options) {
    const canvas = element("canvas", { "aria-hidden": "true" }), pen = canvas.getContext("2d");
    const picture = document.getElementById("picture").viewBox.baseVal;
    const panel = { cursor: -1, chosen: -1, values: null, draw: draw };
    let width = 0, strip = 0, height = 0;

    if (options.weights && cells.onPicture) {
      const ground = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
      ground.setAttribute("viewBox", "0 0 " + picture.width + " " + picture.height);
      ground.setAttribute("class", "picture");
      ground.setAttribute("aria-hidden", "true");
      use.setAttribute("href", "#pixels");
      ground.append(use);
      box.append(ground);
    }
    box.append(canvas);

    function measure() {
      width = box.clientWidth;
      strip = cells.first > 0 ? Math.max(8, Math.min(width / cells.cols, 30)) : 0;
      const high = options.weights && !cells.onPicture ? Math.min(width * cells.rows / cells.cols, 24 * cells.rows + width / cells.cols)
        : width * picture.height / picture.width;
      height = strip + (strip ? 3 : 0) + high;
      if (box.firstElementChild !== canvas) box.firstElementChild.style.marginTop = strip ? strip + 3 + "px" : "0";
      box.style.height = height + "px";
      canvas.style.height = height + "px";
      canvas.style.top = "0";
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    function place(i) {
      const top = strip ? strip + 3 : 0, w = width / cells.cols, h = (height - top) / cells.rows;
      if (i < cells.first) return [i * strip, 0, strip, strip];
      const at = i - cells.first;
      return [at % cells.cols * w, top + Math.floor(at / cells.cols) * h, w, h];
    }
    function mark(i, inner) {
      const p = place(i);
      pen.strokeStyle = "#000"; pen.lineWidth = 4;
      pen.strokeRect(p[0] + 2, p[1] + 2, p[2] - 4, p[3] - 4);
      pen.strokeStyle = inner; pen.lineWidth = 2;
      pen.strokeRect(p[0] + 2, p[1] + 2, p[2] - 4, p[3] - 4);
    }
    function number(value, p) {
      const words = value >= 0.0005 && value < 1 ? value.toFixed(3).slice(1) : value === 0 ? "0" : value < 0.0005 ? "<.001" : digits(value);
      pen.font = "11px ui-monospace, monospace";
      pen.textAlign = "center"; pen.textBaseline = "middle"; pen.lineJoin = "round";
      pen.strokeStyle = "rgba(0,0,0,.75)"; pen.lineWidth = 3;
      pen.strokeText(words, p[0] + p[2] / 2, p[1] + p[3] / 2);
      pen.fillStyle = "#fff";
      pen.fillText(words, p[0] + p[2] / 2, p[1] + p[3] / 2);
    }
    function draw() {
      if (!box.clientWidth) return;
      measure();
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      if (options.weights && panel.values) {
        const most = largest(panel.values) || 1;
        for (let i = 0; i < cells.count; i++) {
          const p = place(i);
          pen.globalAlpha = cells.onPicture && i >= cells.first ? 0.5 : 1;
          pen.fillStyle = colour(panel.values[i] / most);
          pen.fillRect(p[0], p[1], p[2], p[3]);
          pen.globalAlpha = 1;
        }
      }
      if (options.lines && width / cells.cols >= 8)
        for (let i = 0; i < cells.count; i++) {
          const p = place(i);
          pen.strokeStyle = "rgba(255,255,255,.28)"; pen.lineWidth = 1;
          if (!options.weights || !panel.values) { pen.fillStyle = "rgba(0,0,0,.08)"; pen.fillRect(p[0], p[1], p[2], p[3]); }
          pen.strokeRect(p[0] + 0.5, p[1] + 0.5, p[2] - 1, p[3] - 1);
        }
      if (options.numbers && panel.values)
        for (let i = 0; i < cells.count; i++) {
          const p = place(i);
          if (p[2] >= 34 && p[3] >= 16) number(panel.values[i], p);
        }
      if (panel.chosen >= 0) mark(panel.chosen, "#5ad1ff");
      if (panel.cursor >= 0) mark(panel.cursor, "#fff");
    }
    panel.place = place;
    new ResizeObserver(draw).observe(box.parentElement);
    if (!options.moved) { draw(); return panel; }

    function move(i) {
      if (i < 0 || i >= cells.count || i === panel.cursor) return;
      panel.cursor = i;
      options.moved(i);
      draw();
    }
    function under(event) {
      const r = canvas.getBoundingClientRect(), x = event.clientX - r.left, y = event.clientY - r.top;
      for (let i = 0; i < cells.count; i++) {
        const p = place(i);
        if (x >= p[0] && x < p[0] + p[2] && y >= p[1] && y < p[1] + p[3]) return i;
      }
      return -1;
    }
    function step(key) {
      const i = panel.cursor, at = i - cells.first;
      if (i < 0) return cells.first < cells.count ? cells.first : 0;
      if (key === "Home") return 0;
      if (key === "End") return cells.count - 1;
      if (key === "ArrowLeft") return i - 1;
      if (key === "ArrowRight") return i + 1;
      if (at < 0) return key === "ArrowDown" ? cells.first + Math.min(i, cells.cols - 1) : i;
      if (key === "ArrowDown") return i + cells.cols;
      return at < cells.cols ? (cells.first ? Math.min(at, cells.first - 1) : i) : i - cells.cols;
    }
    box.setAttribute("tabindex", "0");
    box.setAttribute("role", "application");
    box.setAttribute("aria-label", options.label);
    box.addEventListener("pointermove", function (event) { move(under(event)); });
    box.addEventListener("pointerdown", function (event) { move(under(event)); });
    box.addEventListener("keydown", function (event) {
      if (!/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key) || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      move(step(event.key));
    });
    box.addEventListener("focus", function () { if (panel.cursor < 0) move(step("Home")); });
    draw();
    return panel;
  }

  /* ---- the cards of the maps ---- */

  const cards = Array.from(document.querySelectorAll(".map")).map(function (card) {
    const map = data.maps[Number(card.dataset.map)], values = halves(map.values);
    const cells = cellsOf(map.rows * map.cols, 0, map.rows, map.cols);
    const readout = card.querySelector(".readout"), box = card.querySelector(".cells");
    const source = card.querySelector(".about small"), words = source.textContent;
    const panel = Panel(box, cells, { label: "", moved: tell });
    let at = -1;

    cells.plain = false;
    function tell(i) {
      at = i;
      readout.textContent = i < 0 ? say("Point at a cell, or use the arrow keys.")
        : say("{0}: {1} % of the map, number {2} of {3}", nameOf(cells, i), digits(100 * values[i]), rank(values, i), cells.count);
    }
    return function () {
      box.setAttribute("aria-label", say("{0}, {1}", card.querySelector("h3").textContent, say("Point at a cell, or use the arrow keys.")));
      source.textContent = about(words);
      tell(at);
      panel.draw();
    };
  });

  /* ---- attention ---- */

  const all = data.attentions.map(function (a) {
    const kept = halves(a.weights), rows = a.kept === "mean" ? 1 : a.queries;
    const keys = cellsOf(a.keys, a.first, a.rows, a.cols);
    /* weights of one head (-1: mean of heads) for one query (-1: mean of queries) */
    function row(head, query) {
      const out = new Float32Array(a.keys);
      const heads = head < 0 ? a.heads : 1, queries = query < 0 ? rows : 1;
      for (let h = 0; h < heads; h++)
        for (let q = 0; q < queries; q++) {
          const from = ((head < 0 ? h : head) * rows + (query < 0 ? q : query)) * a.keys;
          for (let k = 0; k < a.keys; k++) out[k] += kept[from + k] / (heads * queries);
        }
      return out;
    }
    return {
      path: a.path, heads: a.heads, total: a.heads * a.queries * a.keys, kept: a.kept, keys: keys, row: row, one: a.queries === 1,
      queries: a.queries === a.keys ? keys : cellsOf(a.queries, 0, 0, 0),
      /* what is read at the end: the class token, the only query, or else all together */
      query: a.kept === "all" && (a.queries === 1 || (a.first > 0 && a.queries === a.keys)) ? 0 : -1
    };
  });
  const shown = all.findIndex(function (a) { return a.kept !== "none"; });
  const state = { attention: shown < 0 ? 0 : shown, head: -1, query: shown < 0 ? -1 : all[shown].query, key: -1 };
  const place = document.getElementById("attention");

  function headName(head) { return head < 0 ? say("heads, mean") : say("head {0}", head); }

  function mini(i, head, chosen) {
    const a = all[i], box = element("div", { "class": "cells" });
    const button = element("button", { type: "button", role: "radio", "class": "mini", "aria-checked": String(chosen),
      tabindex: chosen ? "0" : "-1", "aria-label": say("{0}, {1}", a.path, headName(head)) }, [box]);
    button.dataset.at = i + "," + head;
    button.addEventListener("click", function () { choose(i, head); });
    return button;
  }
  function choose(i, head) {
    if (all[i].kept === "none") return;
    if (i !== state.attention) { state.query = all[i].query; state.key = -1; }
    state.attention = i;
    state.head = head;
    place.querySelectorAll(".mini").forEach(function (b) {
      const on = b.dataset.at === i + "," + head;
      b.setAttribute("aria-checked", String(on));
      b.tabIndex = on ? 0 : -1;
      if (on && place.contains(document.activeElement)) b.focus();
    });
    large();
  }
  function overview() {
    const heads = all.reduce(function (most, a) { return Math.max(most, a.heads); }, 0);
    const body = element("tbody"), top = element("tr", {}, [element("th", {}, [say("attention")]), element("th", {}, [say("mean")])]);
    for (let h = 0; h < heads; h++) top.append(element("th", {}, [say("head {0}", h)]));
    all.forEach(function (a, i) {
      const line = element("tr", {}, [element("th", { "class": "path" }, [i + ": " + a.path])]);
      for (let h = -1; h < a.heads && a.kept !== "none"; h++)
        line.append(element("td", {}, [mini(i, h, i === state.attention && h === state.head)]));
      body.append(line);
    });
    const group = element("div", { role: "radiogroup", "class": "wide",
      "aria-label": say("One row for each attention, one column for each head. Choose one to see it large.") },
      [element("table", { "class": "grid", role: "presentation" }, [element("thead", {}, [top]), body])]);
    group.addEventListener("keydown", function (event) {
      const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!move) return;
      event.preventDefault();
      let i = state.attention + move[0];
      while (move[0] && i >= 0 && i < all.length && all[i].kept === "none") i += move[0];
      if (i < 0 || i >= all.length) return;
      choose(i, Math.max(-1, Math.min(all[i].heads - 1, state.head + move[1])));
    });
    return group;
  }
  function fillMinis() {
    place.querySelectorAll(".mini").forEach(function (b) {
      const at = b.dataset.at.split(",").map(Number), a = all[at[0]];
      const panel = Panel(b.firstElementChild, a.keys, { weights: true });
      panel.values = a.row(at[1], a.query);
      panel.draw();
    });
  }
  function scale(most) {
    const canvas = element("canvas", { width: "256", height: "1", "aria-hidden": "true" }), pen = canvas.getContext("2d");
    for (let x = 0; x < 256; x++) { pen.fillStyle = colour(x / 255); pen.fillRect(x, 0, 1, 1); }
    return element("div", { "class": "scale" }, ["0", canvas, digits(most)]);
  }
  function large() {
    const a = all[state.attention], where = place.querySelector(".large");
    const from = element("div"), to = element("div"), keyBox = element("div", { "class": "cells", id: "keys" });
    const queryOut = element("output", { "class": "readout", "aria-live": "polite" });
    const keyOut = element("output", { "class": "readout", "aria-live": "polite" });
    const strongest = element("ol", { "class": "top" }), bar = element("div");
    const title = say("{0}, {1}", a.path, headName(state.head));
    let queries = null, mean = null, values;

    where.replaceChildren(from, to);
    from.append(element("h3", {}, [say("From: which query asks")]));
    if (a.one || a.kept !== "all") {
      from.append(element("p", {}, [a.one ? say("This attention has one query: it reads all cells once.") : say("Only the mean over queries was kept.")]));
    } else {
      const box = element("div", { "class": "cells", id: "queries" });
      mean = element("button", { type: "button" }, [say("Mean of all queries")]);
      mean.addEventListener("click", function () { state.query = -1; queries.cursor = -1; show(); queries.draw(); });
      from.append(box, queryOut, element("div", { "class": "choices" }, [mean]));
      queries = Panel(box, a.queries, { label: say("{0}, {1}", say("From: which query asks"), say("Point at a cell, or use the arrow keys.")),
        weights: true, lines: true, moved: function (i) { state.query = i; show(); } });
      queries.cursor = state.query;
      queries.draw();
    }
    to.append(element("h3", {}, [say("To: where its weights lie")]), keyBox, bar, keyOut,
      element("p", {}, [say("Largest weights:")]), strongest);
    const keys = Panel(keyBox, a.keys, { label: say("{0}, {1}", title, say("Point at a cell, or use the arrow keys.")),
      weights: true, lines: true, numbers: true, moved: function (i) { state.key = i; tell(); } });
    keys.cursor = state.key;

    function tell() {
      keyOut.textContent = state.key < 0 ? say("Point at a cell, or use the arrow keys.")
        : say("{0}: weight {1}, number {2} of {3}", nameOf(a.keys, state.key), digits(values[state.key]), rank(values, state.key), a.keys.count);
    }
    function show() {
      values = a.row(state.head, state.query);
      keys.values = values;
      keys.chosen = a.queries === a.keys ? state.query : -1;
      keys.draw();
      const most = largest(values);
      bar.replaceChildren(scale(most));
      const order = Array.from(values.keys()).sort(function (i, j) { return values[j] - values[i] || i - j; }).slice(0, 5);
      strongest.replaceChildren.apply(strongest, order.map(function (i) {
        return element("li", {}, [say("{0}: {1}", nameOf(a.keys, i), digits(values[i]))]);
      }));
      queryOut.textContent = say("Query: {0}", state.query < 0 ? say("mean of all queries") : nameOf(a.queries, state.query));
      if (mean) mean.setAttribute("aria-pressed", String(state.query < 0));
      tell();
    }
    show();
  }
  function render() {
    cards.forEach(function (show) { show(); });
    if (!place || !all.length) return;
    const notes = all.filter(function (a) { return a.kept !== "all"; }).map(function (a) {
      return element("p", { "class": "muted" }, [say(a.kept === "mean"
        ? "{0} has {1} weights, more than this page keeps: shown is the mean over its queries. The NPZ file has all."
        : "{0} has {1} weights, more than this page keeps. The NPZ file has them.", a.path, a.total)]);
    });
    place.replaceChildren(
      element("p", {}, [say("One row for each attention, one column for each head. Choose one to see it large."), " ",
        element("small", {}, [say("Weights are kept as half floats, so three digits hold.")])]));
    place.append.apply(place, notes.concat([overview()]));
    if (shown >= 0) {
      place.append(element("div", { "class": "large" }));
      fillMinis();
      large();
    }
  }
  heed.changed(render);
}());
