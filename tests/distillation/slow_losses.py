"""The losses as their equations read, on lists of Python floats; slow and obvious."""

import math


def softmax(row, tau=1.0):
    top = max(row)
    exps = [math.exp((value - top) / tau) for value in row]
    return [value / sum(exps) for value in exps]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def decoupled(p, q, label, tau):
    """TCKD and NCKD of one sample, times tau squared."""
    off = [c for c in range(len(p)) if c != label]
    rest_p, rest_q = sum(p[c] for c in off), sum(q[c] for c in off)
    tckd = divergence([p[label], rest_p], [q[label], rest_q])
    nckd = divergence([p[c] / rest_p for c in off], [q[c] / rest_q for c in off]) if rest_p > 0 else 0.0
    return tau**2 * tckd, tau**2 * nckd


def pearson(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    variances = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return covariance / math.sqrt(variances)


def relations(p, q):
    """Inter- and intra-class loss of a batch of distributions."""
    inter = [1 - pearson(a, b) for a, b in zip(p, q, strict=True)]
    intra = [1 - pearson(a, b) for a, b in zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)]
    return sum(inter) / len(inter), sum(intra) / len(intra)


def standardised(row):
    mean = sum(row) / len(row)
    variance = sum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(variance + 1e-7) for value in row]
