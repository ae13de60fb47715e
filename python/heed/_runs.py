"""Trained runs and training: what the command does, as calls."""
import ctypes
import functools
import os
import sys
import tempfile
import threading
from ctypes import POINTER, byref

import numpy as np

from . import _c, _spec
from ._library import default_context, error, lib, made, take_text, text
from ._tensors import NUMPY, copied, shape_of, tensor

MIRROR = {False: _c.HEED_AVERAGE_NONE, True: _c.HEED_AVERAGE_MIRROR}


def strings(words):
    """const char *const * of Python strings, ended by NULL."""
    words = [os.fsencode(w) for w in words]
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True, initial=-np.inf))
    return e / e.sum(1, keepdims=True)


class Predictions:
    """logits and probability [n, classes], label [n] (the likeliest class), name [n] of these classes, source
    [n]: where each picture came from, None for arrays."""

    def __init__(self, logits, classes, source):
        self.logits, self.source = logits, source
        self.probability = softmax(logits)
        self.label = logits.argmax(1)
        self.name = [classes[i] for i in self.label]

    def __len__(self):
        return len(self.label)

    def __repr__(self):
        rows = ["%s: %s (%.1f %%)" % (s if s is not None else i, n, 100 * p) for i, (s, n, p) in enumerate(
            zip(self.source or [None] * len(self), self.name, self.probability.max(1, initial=0)))]
        return "\n".join(rows[:20] + (["... and %d more" % (len(rows) - 20)] if len(rows) > 20 else []))


class Evaluation:
    """n, loss, accuracy, accuracy_mirror (None where it was not made), part (which samples), confusion
    [classes, classes] with the true class as row, probability [n, classes], labels [n]; and `metrics`,
    scikit-learn's numbers by scikit-learn's names."""

    def __init__(self, context, e, classes):
        k = e.classes
        self.n, self.loss, self.accuracy = e.n, e.loss, e.accuracy
        self.part, self.classes = text(e.part), classes
        self.accuracy_mirror = e.accuracy_mirror if e.accuracy_mirror >= 0 else None
        self.confusion = copied(e.confusion, (k, k), np.int64)
        self.probability = copied(e.probability, (e.n, k), np.float32) if e.probability else None
        self.labels = copied(e.labels, (e.n,), np.int64)
        self.metrics = metrics(self.probability, self.labels, context) if e.n else {}

    def __repr__(self):
        return "heed.Evaluation(%s: accuracy %.4f of %d, loss %.4f)" % (self.part, self.accuracy, self.n,
                                                                        self.loss)


def metrics(probability, labels, context=None):
    """Metrics of probabilities [n, classes] and labels [n], by scikit-learn's names and definitions;
    "per_class" has a row for each class, "confusion" the true class as row."""
    context = context or default_context()
    p = np.ascontiguousarray(probability, np.float32)
    y = np.ascontiguousarray(labels, np.int64)
    h = POINTER(_c.heed_metrics)()
    lib.heed_metrics_new(byref(h), context.pointer, tensor(p), tensor(y))
    try:
        m = h[0]

        def numbers(s):
            return {n: getattr(s, n) for n, t in s._fields_ if t in (ctypes.c_double, ctypes.c_int64)}
        out = numbers(m)
        out.update({n: numbers(getattr(m, n)) for n in ("macro", "micro", "weighted")})
        out["per_class"] = [numbers(m.per_class[i]) for i in range(m.classes)]
        out["confusion"] = copied(m.confusion, (m.classes, m.classes), np.int64)
        return out
    finally:
        lib.heed_metrics_free(context.pointer, h)


class Explanation:
    """What a run looks at on one picture. The numbers are copies and stay when this is closed.

    predicted, target, truth    class numbers; truth None when it is not known
    probability                 [classes]
    attentions                  {path: (weights, gradient)}, each [heads, queries, keys]
    maps                        {method: {"map": [rows, cols], "verdict": "faithful" | "no better" | "worse",
                                "rank": ..., "area": ..., "random_area": ..., "about": ...}}
    """
    VERDICTS = {_c.HEED_FAITHFUL: "faithful", _c.HEED_NO_BETTER: "no better", _c.HEED_WORSE: "worse"}
    FORMATS = {".png": _c.HEED_EXPLAIN_PNG, ".svg": _c.HEED_EXPLAIN_SVG, ".html": _c.HEED_EXPLAIN_HTML,
               ".npz": _c.HEED_EXPLAIN_NPZ, ".json": _c.HEED_EXPLAIN_JSON}

    def __init__(self, context, handle):
        self._context, self._handle = context, handle
        e = handle.pointer[0]
        self.predicted, self.target = e.predicted, e.target
        self.truth = e.truth if e.truth >= 0 else None
        self.classes = [text(e.class_names[i]) for i in range(e.classes)]
        self.probability = copied(e.probability, (e.classes,), np.float32)
        self.picture = copied(e.picture.data, shape_of(e.picture.type), np.uint8) if e.picture.data else None
        self.attentions, self.maps = {}, {}
        for i in range(e.n_attentions):
            a = e.attentions[i]
            shape = (a.heads, a.queries, a.keys)
            self.attentions[text(a.path)] = (copied(a.weights, shape, np.float32),
                                             copied(a.gradient, shape, np.float32))
        for i in range(e.n_maps):
            m = e.maps[i]
            f = m.faithful
            self.maps[text(lib.heed_explain_method_name(m.method))] = {
                "map": copied(m.map, (m.rows, m.cols), np.float32), "about": text(m.about),
                "verdict": self.VERDICTS[f.verdict], "rank": f.rank, "area": f.area, "random_area": f.random_area,
                "curve": copied(f.probability, (f.points,), np.float32)}

    def save(self, path):
        """Writes PNG, SVG, HTML, NPZ or JSON, by the name's ending."""
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending not in self.FORMATS:
            raise error("HEED_ERR_USAGE", "an explanation is written as %s, not as \"%s\""
                        % (", ".join(self.FORMATS), ending))
        lib.heed_explanation_write(self._context.pointer, self._handle.pointer, self.FORMATS[ending],
                                   os.fsencode(path))

    def text(self, width=80):
        """The maps as text."""
        p = POINTER(ctypes.c_char)()
        lib.heed_explanation_text(byref(p), self._context.pointer, self._handle.pointer,
                                  _c.HEED_TERMINAL_ASCII, width)
        return take_text(self._context, p)

    def _repr_html_(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "map.svg")
            self.save(path)
            with open(path, encoding="utf-8") as f:
                return "<div style=\"max-width:100%%;overflow:auto\">%s</div>" % f.read()

    def __repr__(self):
        return "heed.Explanation(%s with %.1f %%; %s)" % (
            self.classes[self.target], 100 * self.probability[self.target],
            ", ".join("%s: %s" % (n, m["verdict"]) for n, m in self.maps.items()))


def one_at_a_time(method):
    """A run belongs to one thread at a time: others wait."""
    @functools.wraps(method)
    def call(self, *args, **kwargs):
        with self._lock:
            return method(self, *args, **kwargs)
    return call


class Run:
    """A trained run: heed.open(folder). Threads may share it and take turns."""

    def __init__(self, folder, context=None):
        self.context = context or default_context()
        self.folder, self._lock = os.fspath(folder), threading.RLock()
        self._handle = made(_c.heed_run, lib.heed_run_open, lib.heed_run_free, self.context.pointer,
                            os.fsencode(folder),
                            keeps=(self.context.handle,))
        p = self._pointer
        self.classes = [text(lib.heed_run_class(p, i)) for i in range(lib.heed_run_classes(p))]
        self.input_shape = shape_of(lib.heed_run_input_type(p, 1))[1:]

    @property
    def _pointer(self):
        if self._handle.pointer is None:
            raise error("HEED_ERR_USAGE", "the run %s is closed" % self.folder)
        return self._handle.pointer

    @one_at_a_time
    def close(self):
        self._handle.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @property
    def model(self):
        """Name of the architecture."""
        return self.recipe("model.name")

    @property
    def parameters(self):
        return lib.heed_model_parameters(lib.heed_run_model(self._pointer))

    @one_at_a_time
    def recipe(self, key):
        """Value of a key of the recipe as text, "" for none: run.recipe("train.lr")."""
        return text(lib.heed_recipe_get(lib.heed_run_recipe(self._pointer), key.encode()))

    @one_at_a_time
    def weights(self):
        """{name: array}: copies of the weights under PyTorch's names."""
        w = lib.heed_model_weights(lib.heed_run_model(self._pointer))
        out = {}
        for i in range(lib.heed_weights_count(w)):
            name = ctypes.c_char_p()
            t = lib.heed_weights_at(w, i, byref(name))
            if lib.heed_weights_in_model(name.value):
                out[text(name.value)] = copied(t.data, shape_of(t.type), NUMPY[t.type.dtype])
        return out

    def pictures(self, x):
        """x as u8 [n,C,H,W]."""
        a = np.asarray(x)
        if a.dtype != np.uint8:
            raise error("HEED_ERR_DTYPE", "pictures are arrays of uint8 (0 to 255), not of %s" % a.dtype)
        c, h, w = self.input_shape
        if a.ndim == 2:
            a = a[None, None]
        elif a.ndim == 3:
            a = a[:, None] if c == 1 else a[None]
        if a.ndim != 4 or a.shape[1:] != self.input_shape:
            raise error("HEED_ERR_SHAPE", "this run takes pictures [n, %d, %d, %d], and these are %s: a file's name is decoded and "
                        "resized" % (c, h, w, list(np.shape(x))))
        return np.ascontiguousarray(a)

    @one_at_a_time
    def predict(self, x, mirror=False):
        """What is on pictures: an array u8 [n,C,H,W] (or [n,H,W], [H,W] for grey ones), or names of files,
        folders or IDX files ("f.idx.gz[0:100]"), which are decoded and resized as training did. mirror: the
        mean over each and its mirror image. Gives Predictions."""
        if is_path(x) or isinstance(x, (list, tuple)) and x and all(is_path(p) for p in x):
            return self._predict_files([x] if is_path(x) else x, mirror)
        a = self.pictures(x)
        return Predictions(self._logits(a, mirror), self.classes, None)

    def _logits(self, a, mirror):
        logits = np.empty((len(a), len(self.classes)), np.float32)
        at = logits.ctypes.data_as(POINTER(ctypes.c_float))
        lib.heed_run_predict(self._pointer, tensor(a), MIRROR[bool(mirror)], at)
        return logits

    def _inputs(self, paths, most):
        """Batches of (pictures, names): copies."""
        h = made(_c.heed_inputs, lib.heed_inputs_open, lib.heed_inputs_close, self._pointer, strings(paths),
                 0, keeps=(self._handle,))
        try:
            while True:
                t, names = _c.heed_tensor(), POINTER(ctypes.c_char_p)()
                lib.heed_inputs_next(h.pointer, most, byref(t), byref(names))
                n = t.type.dims[0] if t.type.rank else 0
                if n == 0:
                    return
                yield copied(t.data, shape_of(t.type), np.uint8), [text(names[i]) for i in range(n)]
        finally:
            h.close()

    def _predict_files(self, paths, mirror):
        logits, source = [np.empty((0, len(self.classes)), np.float32)], []
        for a, names in self._inputs(paths, 64):
            logits.append(self._logits(a, mirror))
            source += names
        return Predictions(np.concatenate(logits), self.classes, source)

    @one_at_a_time
    def evaluate(self, data=None):
        """Evaluates on the test part of the recipe's data, or of a folder. Gives an Evaluation."""
        e = _c.heed_evaluation()
        lib.heed_run_evaluate(byref(e), self._pointer, None if data is None else os.fsencode(data))
        try:
            return Evaluation(self.context, e, self.classes)
        finally:
            lib.heed_evaluation_release(self.context.pointer, byref(e))

    @one_at_a_time
    def explain(self, x, methods=None, *, layer=None, head=None, target=None, truth=None, orders=0, points=0,
                seed=0, name=None):
        """What the answer to one picture (an array u8, or a file's name) rests on. methods: words of "raw",
        "rollout", "gradient", "received", "occlusion"; None: all. Every map comes with a deletion test. Gives
        an Explanation."""
        if is_path(x):
            a, names = next(self._inputs([x], 1), (None, None))
            name = name or names[0]
        else:
            a = self.pictures(x)
            if len(a) != 1:
                raise error("HEED_ERR_SHAPE", "explain takes one picture, not %d" % len(a))
        known = [text(lib.heed_explain_method_name(i)) for i in range(_c.HEED_EXPLAIN_METHODS)]
        opts = _c.heed_explain_opts(orders=orders, points=points, seed=seed)
        for word in [methods] if isinstance(methods, str) else methods or []:
            if word not in known:
                raise error("HEED_ERR_USAGE", "explain: " + _spec.not_known("method ", word, known))
            opts.methods |= 1 << known.index(word)
        for field, value in (("layer", layer), ("head", head), ("target", target)):
            if value is not None:
                value = self.classes.index(value) if isinstance(value, str) else int(value)
                setattr(opts, field, _c.heed_maybe_i64(True, value))
        truth = self.classes.index(truth) if isinstance(truth, str) else -1 if truth is None else int(truth)
        free = lib.heed_explanation_free
        pointer = self.context.pointer
        h = made(_c.heed_explanation, lib.heed_run_explain, lambda p: free(pointer, p), self._pointer,
                 tensor(a[0]),
                 (name or "picture").encode(), truth, byref(opts), keeps=(self.context.handle,))
        return Explanation(self.context, h)

    @one_at_a_time
    def report(self, path=None, *, data=None, force=False):
        """Writes one page on the run; path None: report.html in its folder."""
        opts = _c.heed_report_opts(data=None if data is None else os.fsencode(data), force=bool(force))
        lib.heed_run_report(self._pointer, None if path is None else os.fsencode(path), byref(opts))

    @one_at_a_time
    def doctor(self):
        """Mistakes that train without a word: a list of {"rule", "severity", "place", "text", "measured",
        "remedy"}."""
        d, missing = POINTER(_c.heed_diagnosis)(), POINTER(ctypes.c_char)()
        lib.heed_run_doctor(byref(d), byref(missing), self._pointer, None)
        try:
            rows = []
            for f in d[0].findings[:d[0].n]:
                rule = f.rule[0]
                rows.append({"rule": text(rule.name), "severity": text(lib.heed_severity_name(rule.severity)),
                             "place": text(f.place),
                             "text": text(f.text), "measured": f.measured, "remedy": text(rule.remedy)})
            return rows
        finally:
            lib.heed_diagnosis_free(self.context.pointer, d)
            take_text(self.context, missing)

    def __repr__(self):
        return "heed.Run(%r: %s, %d parameters, %d classes, pictures %s)" % (
            self.folder, self.model, self.parameters, len(self.classes), "x".join(map(str, self.input_shape)))


def is_path(x):
    return isinstance(x, (str, bytes, os.PathLike))


def open_run(folder, context=None):
    """Opens a trained run. Gives a Run; `with heed.open(folder) as run:` closes it early."""
    return Run(folder, context)


class Progress:
    """A line an epoch on stderr; on a terminal one line that changes while it trains."""

    def __init__(self, stream):
        self.stream, self.live = stream, stream.isatty()

    def __call__(self, p):
        line = "epoch %d/%d, loss %.4f" % (p.epoch, p.epochs, p.loss)
        if p.epoch_ended and p.validation_accuracy >= 0:
            line += ", validation %.4f" % p.validation_accuracy
        if p.epoch_ended:
            self.stream.write(("\r\x1b[K" if self.live else "") + line + "\n")
        elif self.live:
            self.stream.write("\r\x1b[K%s, step %d/%d" % (line, p.step, p.steps))
        self.stream.flush()


def train(recipe=None, out=None, *, task=None, data=None, set=None, force=False, resume=False, fresh=False,
          progress=True, notice=None, context=None):
    """Trains a recipe (a YAML file), or a task ("image-classification") on a folder of data, into the run
    folder `out`.

    set       {"train.epochs": 3}: keys of the recipe given here
    force     write over a run that is there;  resume: go on from its newest checkpoint;  fresh: with resume,
              begin anew where there is none
    progress  True: a line an epoch on stderr; None: nothing; or a function that takes a heed_progress (epoch,
              epochs, step, steps, loss, lr, grad_norm, rate, eta, epoch_ended, validation_accuracy, ...) and
              may return True to stop
    notice    a function that takes a sentence about something odd; None: they are not heard of

    Gives the Run, with `run.result` a dictionary of what was reached. Ctrl-C stops after a checkpoint was
    written.
    """
    context = context or default_context()
    if out is None:
        raise error("HEED_ERR_USAGE", "train: out is missing, the folder of the run")
    keys = dict(set or {})
    if recipe is not None and data is not None:
        keys["data.path"] = os.fspath(data)
    overrides = strings("%s=%s" % (k, yaml(v)) for k, v in keys.items())
    if resume and recipe is None and task is None:
        p = POINTER(ctypes.c_char)()
        lib.heed_train_recipe(byref(p), context.pointer, os.fsencode(out))
        recipe = take_text(context, p)
    if (recipe is None) == (task is None):
        raise error("HEED_ERR_USAGE", "train: give a recipe, or a task with data")
    if recipe is not None:
        r = made(_c.heed_recipe, lib.heed_recipe_open, lib.heed_recipe_free, context.pointer,
                 os.fsencode(recipe), overrides)
    else:
        r = made(_c.heed_recipe, lib.heed_recipe_open_task, lib.heed_recipe_free, context.pointer,
                 task.encode(),
                 os.fsencode(data or ""), overrides)
    if progress is True:
        progress = Progress(sys.stderr)
    raised = []

    def guarded(f):         # an exception cannot pass through C: it stops the training, then it is raised
        def call(*args):
            try:
                return bool(f(*args))
            except BaseException as e:
                raised.append(e)
                return True
        return call
    step = _c.heed_progress_fn(guarded(lambda user, p: progress(p[0]) if progress else False))
    reading = _c.heed_read_fn(guarded(lambda user, done, total: False))
    hear = guarded(lambda sentence: notice and notice(text(sentence)))
    said = _c.heed_notice_fn(lambda user, sentence: hear(sentence) and None)
    opts = _c.heed_train_opts(out=os.fsencode(out), force=force, resume=resume, fresh=fresh, progress=step,
                              reading=reading, notice=said)
    result = _c.heed_train_result()
    try:
        lib.heed_train(byref(result), context.pointer, r.pointer, byref(opts))
    except Exception:
        if raised:
            raise raised[0] from None
        raise
    finally:
        r.close()
    if raised:
        raise raised[0]
    run = Run(out, context)
    run.result = {n: getattr(result, n) for n, _ in result._fields_}
    run.result["sha256"] = text(result.sha256)
    return run


def yaml(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (list, tuple)):
        return "[%s]" % ", ".join(map(yaml, v))
    return str(v)
