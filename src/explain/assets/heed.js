/* What every page of heed shares: the reader's language and light or dark. Nothing is remembered.
 *
 * English stands in the page itself; the table below gives the same sentences in Chinese.
 *   <p data-i18n>A sentence.</p>                                    the sentence is its own key
 *   <p data-i18n="{0} of {1}" data-args='["3","7"]'>3 of 7</p>      with places for what differs
 *   data-i18n-label="..."                                           the same for aria-label
 * A page adds its sentences with heed.words({ "English": "中文" }) and asks with heed.say("{0} of {1}", 3, 7).
 * page.html#zh, #en, #dark, #light choose at once; several are joined by commas. */
"use strict";
const heed = (function () {
  const table = {
    "Skip to the content": "跳到正文",
    "Dark": "深色",
    "Light": "浅色",
    "Light or dark": "浅色或深色",
    "Attention shows mixing weights, not causes.": "注意力是混合的权重，不是原因。",
    "Written by heed {0}. This page is one file: it loads nothing and sends nothing.":
      "由 heed {0} 生成。本页只有一个文件：不加载也不发送任何内容。"
  };
  const root = document.documentElement, listeners = [], missing = new Set();
  let language = /^zh/i.test(navigator.language || "") ? "zh" : "en";

  function fill(sentence, args) {
    return sentence.replace(/\{(\d)\}/g, function (place, i) { return i < args.length ? String(args[i]) : place; });
  }
  function find(key) {
    if (language === "en") return key;
    if (Object.prototype.hasOwnProperty.call(table, key)) return table[key];
    missing.add(key);
    return key;
  }
  function say(key) {
    const args = Array.prototype.slice.call(arguments, 1);
    return fill(find(key), args.map(function (a) { return typeof a === "number" ? String(a) : word(a); }));
  }
  /* Arguments that are sentences of ours are turned too; names from outside are in no table. */
  function word(a) {
    return language !== "en" && Object.prototype.hasOwnProperty.call(table, a) ? table[a] : a;
  }
  function argumentsOf(element) {
    return element.dataset.args ? JSON.parse(element.dataset.args) : [];
  }
  function translate(under) {
    under.querySelectorAll("[data-i18n]").forEach(function (e) {
      if (!e.dataset.i18n) e.dataset.i18n = e.textContent.trim().replace(/\s+/g, " ");
      e.textContent = say.apply(null, [e.dataset.i18n].concat(argumentsOf(e)));
    });
    under.querySelectorAll("[data-i18n-label]").forEach(function (e) {
      e.setAttribute("aria-label", say.apply(null, [e.dataset.i18nLabel].concat(argumentsOf(e))));
    });
    under.querySelectorAll("svg.chart text, svg.chart > title").forEach(function (e) { /* numbers and names stay */
      if (!e.dataset.word) e.dataset.word = e.textContent;
      e.textContent = word(e.dataset.word);
    });
  }
  function isDark() {
    if (root.dataset.theme) return root.dataset.theme === "dark";
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }
  function show() {
    root.lang = language === "zh" ? "zh-CN" : "en";
    translate(document);
    const theme = document.getElementById("theme"), other = document.getElementById("language");
    if (theme) theme.textContent = say(isDark() ? "Light" : "Dark");
    if (other) {
      other.textContent = language === "zh" ? "English" : "中文";
      other.lang = language === "zh" ? "en" : "zh-CN";
    }
    listeners.forEach(function (f) { f(); });
  }
  function byFragment() {
    location.hash.slice(1).split(",").forEach(function (word) {
      if (word === "dark" || word === "light") root.dataset.theme = word;
      if (word === "zh" || word === "en") language = word;
    });
  }
  function begin() {
    root.classList.add("ready");
    byFragment();
    document.getElementById("theme").addEventListener("click", function () {
      root.dataset.theme = isDark() ? "light" : "dark";
      show();
    });
    document.getElementById("language").addEventListener("click", function () {
      language = language === "zh" ? "en" : "zh";
      show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    addEventListener("hashchange", function () { byFragment(); show(); });
    show();
  }
  addEventListener("DOMContentLoaded", begin);
  return {
    words: function (more) { Object.assign(table, more); },
    say: say,
    translate: translate,
    dark: isDark,
    language: function () { return language; },
    changed: function (f) { listeners.push(f); },
    missing: function () { return Array.from(missing); }
  };
}());
