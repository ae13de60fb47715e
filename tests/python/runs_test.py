"""heed.open and heed.train: a toy training, and everything that can be asked of its run."""
import gc
import json
import os
import sys
import threading

import numpy as np

import heed
from sentences import refused, run, test

KEYS = {"model.name": "conv-attention", "model.stem": "8 P 16", "model.heads": 2, "train.epochs": 4,
        "train.batch_size": 8,
        "train.lr": 0.01, "data.validation": 0.2}


def pictures():
    with open("data/t10k-images-idx3-ubyte", "rb") as f:
        return np.frombuffer(f.read()[16:], np.uint8).reshape(-1, 8, 8)


def train(out, **more):
    more.setdefault("progress", None)
    return heed.train(task="image-classification", data="data", out=out, force=True,
                      set=dict(KEYS, **more.pop("set", {})), **more)


trained = train("run")


@test
def a_training_gives_its_run_and_its_result():
    assert trained.result["epochs"] == 4 and trained.result["parameters"] == trained.parameters
    assert trained.model == "conv-attention" and len(trained.classes) == 4
    assert trained.input_shape == (1, 8, 8)
    assert trained.recipe("train.epochs") == "4" and trained.recipe("no.such.key") == ""
    assert "conv-attention" in repr(trained)


@test
def the_same_training_from_a_recipe_has_the_same_bytes():
    with open("toy.yaml", "w") as f:
        f.write("task: image-classification\ndata:\n  path: data\n  validation: 0.2\n  classes: a, b, c, d\nmodel:\n  name: mlp\n"
                "  hidden: [8]\ntrain:\n  epochs: 2\n  batch_size: 8\n")
    digests = {heed.train("toy.yaml", "r%d" % n, force=True, progress=None, set={"train.seed": 5},
                          context=heed.Context(threads=n)).result["sha256"] for n in (1, 2)}
    assert len(digests) == 1


@test
def progress_is_told_and_what_it_raises_is_raised():
    seen = []
    train("run2", progress=lambda p: seen.append((p.epoch, p.step, p.loss)) and None)
    assert seen[-1][0] == 4 and all(np.isfinite(row[2]) for row in seen)

    def stop(p):
        if p.step == 6:
            raise KeyboardInterrupt
    with refused(KeyboardInterrupt):
        train("run3", progress=stop)
    assert os.path.isdir("run3/checkpoints") and not os.path.exists("run3/config.json")
    again = heed.train(out="run3", resume=True, progress=None)
    assert again.result["sha256"] == trained.result["sha256"]          # goes on to the same bits
    with refused(heed.Stopped):
        train("run4", progress=lambda p: True)


@test
def predictions_of_arrays_and_of_files_are_the_same():
    x = pictures()
    a, b = trained.predict(x), trained.predict("data/t10k-images-idx3-ubyte")
    assert a.logits.tobytes() == b.logits.tobytes() and len(a) == 16 and a.source is None
    assert b.source[3].endswith("[3]") and a.name[3] == trained.classes[a.label[3]]
    np.testing.assert_allclose(a.probability.sum(1), 1, rtol=1e-6)
    assert trained.predict(x[2]).label[0] == a.label[2] and trained.predict(x[:, None]).label.tolist() == a.label.tolist()
    assert len(trained.predict(x[:0])) == 0
    assert trained.predict(x, mirror=True).logits.shape == (16, 4)
    assert len(repr(b).splitlines()) == 16


@test
def an_evaluation_agrees_with_predictions():
    e = trained.evaluate()
    assert e.n == 16 and e.confusion.sum() == 16
    assert abs(e.accuracy - np.mean(trained.predict(pictures()).label == e.labels)) < 1e-9
    assert abs(e.metrics["accuracy"] - e.accuracy) < 1e-12 and len(e.metrics["per_class"]) == 4
    m = heed.metrics(e.probability, e.labels)
    assert m["log_loss"] == e.metrics["log_loss"]


@test
def an_explanation_has_maps_verdicts_and_weights():
    e = trained.explain(pictures()[5], methods=["raw", "occlusion"], orders=20)
    assert list(e.maps) == ["raw", "occlusion"]
    assert e.maps["raw"]["verdict"] in ("faithful", "no better", "worse")
    w, g = e.attentions["block.0.self_attn"]
    assert w.shape == g.shape and w.shape[0] == 2
    np.testing.assert_allclose(w.sum(-1), 1, rtol=1e-5)
    assert "<svg" in e._repr_html_() and "<script" not in e._repr_html_()
    for name in ("e.svg", "e.html", "e.json"):
        e.save(name)
        assert os.path.getsize(name) > 500
    with open("e.json") as f:
        json.load(f)
    assert "raw" in e.text()
    assert trained.explain("data/t10k-images-idx3-ubyte[5:6]", "raw", orders=1).predicted == e.predicted
    assert trained.explain(pictures()[5], "raw", target=trained.classes[2], orders=1).target == 2


@test
def weights_come_under_pytorchs_names():
    w = trained.weights()
    assert "stem.0.conv.weight" in w and w["stem.0.conv.weight"].dtype == np.float32
    assert not any(n.startswith("optimizer") for n in w)


@test
def a_report_and_the_doctor_look_at_it():
    trained.report("page.html")
    assert os.path.getsize("page.html") > 10000
    for finding in trained.doctor():
        assert finding["severity"] in ("note", "warning", "fault") and finding["text"]


@test
def what_does_not_fit_is_refused_with_a_sentence():
    with refused(heed.FileError, "nope"):
        heed.open("nope")
    with refused(OSError):
        heed.open("nope")
    with refused(heed.ShapeError, "1, 8, 8"):
        trained.predict(np.zeros((2, 9, 9), np.uint8))
    with refused(heed.DtypeError, "uint8"):
        trained.predict(np.zeros((2, 8, 8)))
    with refused(heed.UsageError, "method rwa", "raw"):
        trained.explain(pictures()[0], "rwa")
    with refused(heed.ShapeError, "one picture"):
        trained.explain(pictures())
    with refused(heed.UsageError, ".png"):
        trained.explain(pictures()[0], "raw", orders=1).save("map.gif")
    with refused(heed.ExistsError):
        heed.train(task="image-classification", data="data", out="run", progress=None)
    with refused(heed.Error, "epochz", "epochs"):
        train("run5", set={"train.epochz": 3})
    with refused(heed.UsageError, "recipe"):
        heed.train(out="run6")
    with refused(heed.UsageError, "out"):
        heed.train("toy.yaml")


@test
def threads_may_share_a_run():
    x, want, bad = pictures(), trained.predict(pictures()).logits.tobytes(), []

    def work():
        for n in (16, 7, 16):
            if trained.predict(x[:n]).logits.tobytes() != want[:n * 16]:
                bad.append(n)
    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not bad


@test
def a_closed_run_says_so_and_a_context_outlives_its_runs():
    with heed.open("run") as r:
        assert len(r.predict(pictures())) == 16
    with refused(heed.UsageError, "closed"):
        r.predict(pictures())
    r = heed.open("run", heed.Context(threads=1))
    gc.collect()
    assert len(r.predict(pictures())) == 16


if __name__ == "__main__":
    run(sys.argv[1:])
