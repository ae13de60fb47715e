"""heed.attend: NumPy arrays in, NumPy arrays out."""
import gc
import os
import sys
import threading

import numpy as np

import heed
from sentences import refused, run, test

rng = np.random.default_rng(3)


def random(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


def reference(q, k, v, scale=None, keep=None):
    """softmax(scale q k^T) v in double precision; rows without a key are zero."""
    q, k, v = (np.float64(x) for x in (q, k, v))
    times = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, times, -3), np.repeat(v, times, -3)
    z = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if keep is not None:
        z = np.where(keep, z, -np.inf)
    m = z.max(-1, keepdims=True)
    e = np.exp(z - np.where(np.isfinite(m), m, 0))
    s = e.sum(-1, keepdims=True)
    w = e / np.where(s == 0, 1, s)
    return w @ v, w


@test
def the_documented_example_has_its_numbers():
    r = heed.attend([[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]])
    np.testing.assert_allclose(r.out.ravel(), [8.575210, 8.850937, 8.947975], rtol=1e-6)
    r = heed.attend([[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]], scale=3 ** -0.5)
    np.testing.assert_allclose(r.out.ravel(), [8.364953, 8.636760, 8.801755], rtol=1e-6)


@test
def results_are_those_of_the_formula():
    for hq, hkv, tq, tk, causal in [(2, 2, 5, 7, False), (4, 2, 70, 131, True), (1, 1, 1, 1, True),
                                    (3, 1, 6, 3, True)]:
        q, k, v = random(2, hq, tq, 8), random(2, hkv, tk, 8), random(2, hkv, tk, 5)
        keep = np.arange(tk)[None, :] <= np.arange(tq)[:, None] + tk - tq if causal else None
        want, w = reference(q, k, v, keep=keep)
        r = heed.attend(q, k, v, causal=causal, weights=True)
        np.testing.assert_allclose(r.out, want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(r.weights, w, rtol=1e-4, atol=1e-5)
        assert r.lse.shape == (2, hq, tq)


@test
def asking_for_weights_or_probes_changes_no_bit():
    q, k, v = random(1, 2, 40, 16), random(1, 2, 90, 16), random(1, 2, 90, 16)
    a, b = heed.attend(q, k, v), heed.attend(q, k, v, weights=True)
    c = heed.attend(q, k, v, probe="entropy,received,distance,topk:3,rows:0+7,pooled:8x8,mean")
    assert a.weights is None and a.out.tobytes() == b.out.tobytes() and a.lse.tobytes() == b.lse.tobytes()
    assert a.out.tobytes() == c.out.tobytes() and a.lse.tobytes() == c.lse.tobytes()
    np.testing.assert_allclose(c.mean, b.weights.mean(1), atol=1e-6)
    np.testing.assert_allclose(c.rows, b.weights[:, :, [0, 7]], atol=1e-6)


@test
def results_have_as_many_dimensions_as_the_arrays():
    q, k = random(5, 4), random(6, 4)
    assert heed.attend(q, k, k).out.shape == (5, 4) and heed.attend(q, k, k).lse.shape == (5,)
    assert heed.attend(q[None], k[None], k[None], weights=True).weights.shape == (1, 5, 6)
    assert heed.attend(q, k, k, dout=np.ones((5, 4))).grad["k"].shape == (6, 4)


@test
def an_array_that_is_dense_float32_is_read_where_it_lies():
    q, k, v = random(1, 1, 3, 4), random(1, 1, 5, 4), random(1, 1, 5, 4)
    from heed._attention import dense
    assert dense("q", q) is q and dense("v", v) is v
    context = heed.Context(threads=1)
    big = random(1, 1, 1 << 16, 64)                        # 16 MiB each of k and v
    heed.attend(q=random(1, 1, 1, 64), k=big, v=big, context=context)
    assert context.peak_bytes < 4 << 20, context.peak_bytes


@test
def other_numbers_and_layouts_are_converted():
    q, k, v = random(1, 2, 3, 4), random(1, 2, 5, 4), random(1, 2, 5, 4)
    want = heed.attend(q, k, v).out
    for x in (np.float64, np.float16):
        np.testing.assert_allclose(heed.attend(q.astype(x), k.astype(x), v.astype(x)).out, want, rtol=2e-2,
                                   atol=2e-2)
    strided = np.ascontiguousarray(k.swapaxes(1, 2)).swapaxes(1, 2)
    assert not strided.flags.c_contiguous
    assert heed.attend(q, strided, v).out.tobytes() == want.tobytes()
    assert heed.attend(q.tolist(), k, v).out.tobytes() == want.tobytes()


@test
def gradients_are_those_of_differences():
    q, k, v = random(1, 2, 3, 4), random(1, 1, 5, 4), random(1, 1, 5, 3)
    up, dl, dw = random(1, 2, 3, 3), random(1, 2, 3), random(1, 2, 3, 5)
    r = heed.attend(q, k, v, dout=up, dlse=dl, dweights=dw, lengths=[4])
    keep = (np.arange(5) < 4)[None, None, None, :]

    def loss(q, k, v):
        out, w = reference(q, k, v, keep=keep)
        z = np.where(keep, np.float64(q) @ np.repeat(np.float64(k), 2, 1).swapaxes(-1, -2) * 0.5, -np.inf)
        lse = np.log(np.exp(z).sum(-1))
        return (out * up).sum() + (w * dw).sum() + (lse * dl).sum()
    for name, x in (("q", q), ("k", k), ("v", v)):
        for at in [(0, 0, 1, 2), (0, 0, 2, 0)]:
            step = np.zeros(x.shape)
            step[at] = 1e-5
            args = {"q": np.float64(q), "k": np.float64(k), "v": np.float64(v)}
            up_, down = dict(args), dict(args)
            up_[name], down[name] = args[name] + step, args[name] - step
            want = (loss(**up_) - loss(**down)) / 2e-5
            assert abs(want - r.grad[name][at]) < 1e-4 * max(1, abs(want)), (name, at, want, r.grad[name][at])
    assert not r.grad["k"][0, 0, 4].any() and not r.grad["v"][0, 0, 4].any()


@test
def backward_afterwards_is_the_same():
    q, k, v = random(1, 2, 3, 4), random(1, 2, 5, 4), random(1, 2, 5, 4)
    up = random(1, 2, 3, 4)
    a, b = heed.attend(q, k, v, dout=up).grad, heed.attend(q, k, v).backward(up)
    assert all(a[n].tobytes() == b[n].tobytes() for n in "qkv")


@test
def masks_and_lengths_keep_what_they_say():
    q, k, v = random(2, 2, 4, 8), random(2, 2, 6, 8), random(2, 2, 6, 8)
    mask = rng.random((4, 6)) < 0.6
    want, _ = reference(q, k, v, keep=mask & (np.arange(6) < np.array([6, 2])[:, None])[:, None, None, :])
    np.testing.assert_allclose(heed.attend(q, k, v, mask=mask, lengths=[6, 2]).out, want, rtol=1e-4,
                               atol=1e-5)


@test
def a_spec_and_names_are_the_same():
    q, k, v = random(1, 1, 4, 8), random(1, 1, 6, 8), random(1, 1, 6, 8)
    a = heed.attend(q, k, v, {"score": {"kind": "dot", "scale": 0.3}, "mask": {"causal": True}, "offset": 1})
    b = heed.attend(q, k, v, score="dot", scale=0.3, causal=True, offset=1)
    c = heed.attend(q, k, v, {"score": "dot"}, scale=0.3, mask={"causal": True}, offset=1)
    assert a.out.tobytes() == b.out.tobytes() == c.out.tobytes()


@test
def what_is_not_known_or_not_meant_is_refused_with_a_sentence():
    q = random(1, 2, 4, 8)
    with refused(heed.SpecError, "mask.casual", "causal"):
        heed.attend(q, q, q, {"mask": {"casual": True}})
    with refused(heed.SpecError, "score.kind", "dot"):
        heed.attend(q, q, q, score="dott")
    with refused(heed.SpecError, "score.scale takes a number"):
        heed.attend(q, q, q, scale="big")
    with refused(heed.SpecError, "mask.causal is true or false"):
        heed.attend(q, q, q, causal=1)
    with refused(heed.SpecError, "lenghts", "lengths"):
        heed.attend(q, q, q, lenghts=[3])
    with refused(heed.SpecError, "probe.entropi"):
        heed.attend(q, q, q, probe="entropi")
    with refused(heed.ShapeError, "heads"):
        heed.attend(q, random(1, 3, 4, 8), random(1, 3, 4, 8))
    with refused(heed.ShapeError, "[T,D]"):
        heed.attend(q, q[0], q)
    with refused(heed.DtypeError, "numbers"):
        heed.attend(q, q, np.array(["a"]))
    with refused(heed.LimitError):
        heed.attend(q, q, q, lengths=[9])
    with refused(heed.ShapeError, "dout", "must be"):
        heed.attend(q, q, q, dout=random(1, 2, 3, 8))
    with refused(ValueError):
        heed.attend(q, q, q, {"softcapp": 3})


@test
def numbers_that_do_not_fit_are_refused_and_not_cut():
    q = random(4, 6, 8)
    with refused(heed.SpecError, "offset", "64 bits"):
        heed.attend(q, q, q, causal=True, offset=1 << 70)            # cut to 64 bits it would be 0
    with refused(heed.SpecError, "probe.rows", "64 bits"):
        heed.attend(q, q, q, probe={"rows": [1 << 64]})
    for scale in (1e-300, 1e300):
        with refused(heed.SpecError, "score.scale", "f32"):
            heed.attend(q, q, q, scale=scale)
    with refused(heed.DtypeError, "mask is int64", "bias"):
        heed.attend(q, q, q, mask=np.ones((6, 6), np.int64))
    with refused(heed.DtypeError, "complex64"):
        heed.attend(q * 1j, q, q)
    assert heed.attend(q, q, q, sink=[0, 1, 0, 1]).out.tobytes() == \
        heed.attend(q, q, q, sink=[0.0, 1.0, 0.0, 1.0]).out.tobytes()


@test
def a_spec_that_says_two_things_is_refused():
    q = random(4, 6, 8)
    with refused(heed.SpecError, "softcap", "2.0", "3.0", "give one"):
        heed.attend(q, q, q, {"softcap": 2.0}, softcap=3.0)
    with refused(heed.SpecError, "mask.causal"):
        heed.attend(q, q, q, {"mask": {"causal": True}}, causal=False)
    heed.attend(q, q, q, {"mask": {"causal": True}}, causal=True)
    with refused(heed.SpecError, "score={", "normaliser={"):
        heed.attend(q, q, q, kind="cosine")
    with refused(heed.SpecError, "a spec is an object"):
        heed.attend(q, q, q, '{"softcap": 3}')
    with refused(heed.ShapeError, "(6, 8), (4, 6, 8), (4, 6, 8)"):
        heed.attend(q[0], q, q)


@test
def nothing_to_attend_to_gives_zeros():
    r = heed.attend(random(1, 2, 3, 4), random(1, 2, 0, 4), random(1, 2, 0, 4))
    assert not r.out.any() and np.isneginf(r.lse).all()
    assert heed.attend(random(0, 2, 3, 4), random(0, 2, 3, 4), random(0, 2, 3, 4)).out.shape == (0, 2, 3, 4)


@test
def the_bytes_do_not_depend_on_threads():
    q, k, v = random(2, 4, 200, 32), random(2, 2, 300, 32), random(2, 2, 300, 32)
    outs = [heed.attend(q, k, v, causal=True, dout=q, context=heed.Context(threads=n)) for n in (1, 2, 3)]
    assert len({r.out.tobytes() for r in outs}) == 1 and len({r.grad["k"].tobytes() for r in outs}) == 1


@test
def several_threads_of_python_may_call_at_once():
    q, k, v = random(1, 2, 64, 16), random(1, 2, 64, 16), random(1, 2, 64, 16)
    want, bad = heed.attend(q, k, v).out.tobytes(), []

    def work(n):
        for i in range(40):
            heed.attend(q[:, :, :n + i], k, v)
            if heed.attend(q, k, v).out.tobytes() != want:
                bad.append(n)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not bad


@test
def plans_come_and_go_and_contexts_give_everything_back():
    context = heed.Context(threads=1)
    for t in range(1, 150):
        heed.attend(random(1, 1, t, 4), random(1, 1, 4, 4), random(1, 1, 4, 4), context=context)
    assert len(context.plans.plans) == 64
    first = context.bytes
    for t in range(1, 150):
        heed.attend(random(1, 1, t, 4), random(1, 1, 4, 4), random(1, 1, 4, 4), context=context)
    assert context.bytes <= first * 1.1
    handle = context.handle
    del context
    gc.collect()
    assert handle._end.alive                               # kept here
    del handle
    gc.collect()


@test
def a_forked_child_computes_the_same():
    if not hasattr(os, "fork"):
        return
    q = random(1, 2, 64, 16)
    want = heed.attend(q, q, q).out.tobytes()
    child = os.fork()
    if child == 0:
        same = heed.attend(q, q, q).out.tobytes() == want
        gc.collect()
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


@test
def a_memory_limit_is_an_exception():
    q = random(1, 1, 300, 16)
    with refused(heed.OutOfMemory):
        heed.attend(q, q, q, weights=True, dweights=random(1, 1, 300, 300),
                    context=heed.Context(threads=1, memory_bytes=100000))


@test
def a_map_is_html_that_loads_nothing_and_tells_each_head_in_words():
    from html.parser import HTMLParser
    for tq, tk, causal in [(5, 7, False), (150, 200, True), (1, 3, False), (3, 0, False)]:
        r = heed.attend(random(2, 3, tq, 4), random(2, 3, tk, 4), random(2, 3, tk, 4), causal=causal)
        page, stack, figures = r._repr_html_(), [], []

        class Reader(HTMLParser):
            def handle_starttag(self, tag, attrs):
                attrs = dict(attrs)
                if tag != "img":
                    stack.append(tag)
                for n in ("src", "href"):
                    assert attrs.get(n, "data:").startswith("data:"), attrs
                if tag == "figure":
                    assert attrs["tabindex"] == "0"
                    figures.append(attrs["aria-label"])

            def handle_endtag(self, tag):
                assert stack.pop() == tag
        Reader().feed(page)
        assert not stack and len(figures) == 3 and "<script" not in page and len(page) < 60000
    w = heed.attend(np.eye(4) * 20, np.eye(4) * 20, np.eye(4))
    assert "100 % on the diagonal" in w._repr_html_()
    m = heed.attend(random(1, 2, 130, 4), random(1, 2, 100, 4), random(1, 2, 100, 4)).map()
    assert m.shape == (2, 44, 50) and abs(m.mean() * 100 - 1) < 0.1


@test
def version_and_features_are_those_of_the_library():
    assert heed.version == heed.__version__ and "png" in heed.features()
    assert heed.Context(threads=1).threads == 1 and heed.default_context().isa != "auto"
    with refused(heed.UsageError):
        heed.Context(isa="x86-64-v9")


if __name__ == "__main__":
    run(sys.argv[1:])
