/* Attention step by step: one stage at a time. Without script the page shows all of them. */
"use strict";
heed.words({
  "Attention, step by step": "注意力：逐步计算",
  "Thirteen steps from queries and keys to the result, for {0} queries and {1} keys.":
    "从查询和键到结果共十三步：{0} 个查询，{1} 个键。",
  "Left and right arrow keys go from step to step, Home and End to the first and the last.":
    "左右方向键切换步骤，Home 和 End 跳到第一步和最后一步。",
  "Previous": "上一步",
  "Next": "下一步",
  "Steps": "步骤",
  "Step {0}: {1}": "第 {0} 步：{1}",
  "The descriptor changes nothing here: the numbers are those of the step before.":
    "描述符在这一步不作改变：数值与上一步相同。",
  "Sequence {0}, head {1}. Rows are queries, columns are {2}.": "序列 {0}，头 {1}。行是查询，列是{2}。",
  "keys": "键",
  "numbers of a value": "值向量的分量",
  "Empty cells are masked.": "空单元格已被掩蔽。",
  "Descriptor": "描述符",
  "Linear attention has no scores: it begins with step 8.": "线性注意力没有得分：从第 8 步开始。",
  "raw scores": "原始得分",
  "relative positions": "相对位置",
  "scale": "缩放",
  "added positions and bias": "叠加的位置项与偏置",
  "soft cap": "软上限",
  "heads talk before": "归一化前的头间混合",
  "temperature": "温度",
  "normalise": "归一化",
  "differential": "差分",
  "heads talk after": "归一化后的头间混合",
  "dropout": "随机失活",
  "sum of values": "对值求和",
  "gate": "门控",
  "How well each query meets each key. Rotary positions, if there are any, have turned both before.":
    "每个查询与每个键的匹配程度。旋转位置编码（若有）已先作用于两者。",
  "Terms that depend on the query and on how far away the key stands.": "取决于查询以及键的距离的项。",
  "One factor for all scores keeps them in the range where softmax is neither flat nor hard.":
    "统一的系数使得分处于 softmax 既不平坦也不极端的范围。",
  "Terms that do not depend on what query and key say: distance, buckets of distance, a given bias.":
    "与查询和键的内容无关的项：距离、距离分桶、给定的偏置。",
  "Large scores are bent back below the cap.": "过大的得分被压回上限以内。",
  "Each head's scores become a mixture of all heads' scores.": "每个头的得分变为所有头得分的混合。",
  "A high temperature makes weights more equal, a low one sharper.": "温度高则权重更均匀，温度低则更尖锐。",
  "Scores of kept keys become weights.": "保留的键的得分变为权重。",
  "A second attention is taken away, and with it what both have in common.": "减去第二个注意力，从而消去两者的共同部分。",
  "Each head's weights become a mixture of all heads' weights. These are the weights reported.":
    "每个头的权重变为所有头权重的混合。这就是报告的权重。",
  "In training some weights are set to zero and the others made larger.": "训练时部分权重置零，其余放大。",
  "Each query receives the values of its keys, by weight.": "每个查询按权重接收各键的值。",
  "A gate decides how much of each number passes.": "门控决定每个分量通过多少。"
});
addEventListener("DOMContentLoaded", function () {
  const stages = Array.from(document.querySelectorAll(".stage")), buttons = Array.from(document.querySelectorAll(".steps button"));
  let at = 0;

  function show(n, focus) {
    at = Math.max(0, Math.min(stages.length - 1, n));
    stages.forEach(function (s, i) { s.classList.toggle("shown", i === at); });
    buttons.forEach(function (b, i) {
      b.setAttribute("aria-pressed", String(i === at));
      if (focus && i === at && document.activeElement && document.activeElement.closest(".steps")) b.focus();
    });
    document.getElementById("previous").disabled = at === 0;
    document.getElementById("next").disabled = at === stages.length - 1;
  }
  buttons.forEach(function (b, i) { b.addEventListener("click", function () { show(i); }); });
  document.getElementById("previous").addEventListener("click", function () { show(at - 1); });
  document.getElementById("next").addEventListener("click", function () { show(at + 1); });
  addEventListener("keydown", function (e) {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: stages.length - 1 }[e.key];

    if (to === undefined || e.ctrlKey || e.altKey || e.metaKey) return;
    e.preventDefault();
    show(to, true);
  });
  location.hash.slice(1).split(",").forEach(function (word) {
    const i = stages.findIndex(function (s) { return s.dataset.step === word; });
    if (i >= 0) at = i;
  });
  show(at);
});
