"""An answer of the typed service as the document that the friendly HTTP route sends, number for number."""

from __future__ import annotations

import json

from protos.certserve.v1 import certserve_pb2 as pb
from serving.wires.typed.certserve_proto import MODES, NORMS, STATUSES, VERDICTS

Document = dict[str, object]


def document(message: pb.PredictResponse) -> Document:
    """The document that the friendly HTTP route sends for this answer."""
    names = ("name", "version", "digest", "runtime")
    model: Document = {name: getattr(message.model, name) for name in names}
    return {"predictions": [_prediction_document(each, model) for each in message.predictions]}


def _prediction_document(each: pb.Prediction, model: Document) -> Document:
    found: Document = {
        "label": each.label,
        "class_index": each.class_index,
        "probabilities": list(each.probabilities) or None,
        "certificate": _certificate_document(each.certificate) if each.HasField("certificate") else None,
        "ood": _ood_document(each.ood) if each.HasField("ood") else None,
        "mixture": _mixture_document(each.mixture) if each.HasField("mixture") else None,
        "alpha": each.alpha,
        "alpha_split": {
            "class": each.alpha_split.class_share,
            "upper": each.alpha_split.upper_share,
            "threshold": each.alpha_split.threshold_share,
            "interval": each.alpha_split.interval_share,
        },
        "draws": each.draws,
        "lost_draws": each.lost_draws,
        "model": model,
    }
    if each.HasField("input"):
        found["input"] = {"snapped": each.input.snapped, "snap_distance": each.input.snap_distance}
    if each.HasField("granted_draws"):
        found["granted_draws"] = each.granted_draws
    if each.HasField("receipt"):
        found["receipt"] = json.loads(each.receipt)
    return found


def _certificate_document(message: pb.Certificate) -> Document:
    return {
        "status": STATUSES.get(message.status),
        "label": message.label if message.HasField("label") else None,
        "radius": message.radius,
        "reaches_others": message.reaches_others,
        "norm": NORMS.get(message.norm),
        "sigma": message.sigma,
        "p_a_lower": message.p_a_lower if message.HasField("p_a_lower") else None,
        "p_b_upper": message.p_b_upper,
        "procedure": MODES.get(message.procedure),
        "target_radius": message.target_radius if message.HasField("target_radius") else None,
        "radius_tolerance": message.radius_tolerance if message.HasField("radius_tolerance") else None,
    }


def _ood_document(message: pb.Ood) -> Document:
    certified = message.certified
    return {
        "score": message.score if message.HasField("score") else None,
        "p_value": message.p_value,
        "in_distribution": message.in_distribution,
        "threshold": message.threshold,
        "certified": {
            "verdict": VERDICTS.get(certified.verdict),
            "score_lower": certified.score_lower if certified.HasField("score_lower") else None,
            "score_upper": certified.score_upper if certified.HasField("score_upper") else None,
            "radius": certified.radius,
            "reaches_others": certified.reaches_others,
        }
        if message.HasField("certified")
        else None,
    }


def _mixture_document(message: pb.Mixture) -> Document:
    return {
        "label": message.label,
        "probabilities": list(message.probabilities),
        "robust_weight": message.robust_weight,
        "radius": message.radius,
        "reaches_others": message.reaches_others,
    }
