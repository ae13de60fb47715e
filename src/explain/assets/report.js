/* The words of a run's report in Chinese; the page itself needs no script. */
"use strict";
heed.words({
  "{0}: {1}": "{0}：{1}"
});
