"""Signed receipts from a seed: of every procedure and version, with random terms and counts, honest ones and altered ones.

An honest one is made by the procedures themselves; some have a prior, and some are of other laws, whose balls may have
several parts. An altered one has another value in one place, or other bytes; some are signed again, as by a server that
lies.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from certify.bounds.anytime import KAPPA, KAPPA_UPPER, MAX_DRAWS
from certify.bounds.prior import Prior
from certify.claims.certificate import AlphaSplit, Terms, class_alone
from certify.claims.confidence import confidence
from certify.claims.counts import Counts
from certify.claims.procedures import PROCEDURES, made, run
from certify.ood.joint_label import in_agreement, joint_label
from certify.ood.robust_alarm import AlarmTerms
from certify.ood.verdict import Detector, tally, verdict
from certify.receipts.alarm_record import alarm_record
from certify.receipts.confidence_record import ConfidenceRecord
from certify.receipts.joint_record import JointRecord
from certify.receipts.prior_record import prior_record
from certify.receipts.receipt import Receipt, recorded, split_record
from certify.receipts.recheck import claims, mixture_claim, stop_reason
from certify.receipts.records import (
    InputRecord,
    ModelRecord,
    NoiseRecord,
    ProcedureRecord,
    ScoreDraws,
    ScoreRecord,
)
from certify.receipts.versions import FIFTH, FIRST, SCHEMA, SIXTH, THIRD, WITH_TOLERANCE, schema_of
from certify.receipts.whole_ball import whole_ball
from certify.smoothing.ball import Ball, parse
from certify.smoothing.gaussian import Gaussian
from certify.smoothing.law import Guarantee
from serving.security.signing import Signer
from tests.contract.laws import ColumnsGuarantee, DeletionGuarantee

SIGNER, OTHER = Signer(b"k" * 32), Signer(b"o" * 32)
SPLITS = ((0.5, 0.2, 0.1, 0.2), (0.8, 0.2, 0.0, 0.0), (0.5, 0.0, 0.1, 0.0), (0.3, 0.1, 0.0, 0.05), (1.0, 0.0, 0.0, 0.0))
"""Of class, upper bound, threshold and interval."""
VERSIONS = (FIRST, WITH_TOLERANCE, THIRD, SCHEMA, FIFTH, SIXTH)
Made = tuple[bytes, str]
"""The text of a signed receipt, and the public key that it is judged by, in hexadecimal."""


def receipts(seed: int, count: int) -> Iterator[Made]:
    """Half of them honest, of which some are written in another way; half altered."""
    chance = random.Random(seed)
    for index in range(count):
        signed = SIGNER.sign(_honest(chance)).to_text()
        if index % 2:
            yield chance.choice(_ALTERED)(chance, signed)
        elif index % 8 == 2:
            yield _rewritten(chance, signed).encode(), SIGNER.public.hex()
        else:
            yield signed.encode(), SIGNER.public.hex()


def _honest(chance: random.Random) -> Receipt:
    name = chance.choice(tuple(PROCEDURES))
    schema = chance.choice((SCHEMA, SCHEMA, THIRD, WITH_TOLERANCE if name == "precision" else FIRST))
    terms, menu = _terms(chance, name, schema)
    prior = prior_record(terms.prior)
    draws = _draws(chance, name)
    counts = _counts(chance, terms, draws)
    most = draws if name == "fixed" or chance.random() < 0.4 else min(MAX_DRAWS, draws + chance.choice((1, 32, 10_000)))
    target = _target(chance, terms.law)
    tolerance = terms.law.reach.size / 8 * 10 ** chance.uniform(-2, 1)
    asked = made(PROCEDURES[name], target, tolerance, most)
    procedure = run(asked, terms, most)
    certificate = procedure and procedure.conclude(counts)
    weight = chance.choice((None, 0.3, 0.5, 0.6, 0.9, 1.0, chance.random())) if certificate else None
    scored = draws < 10**6 and chance.random() < 0.8 and len(terms.law.parts) == 1
    scores, ood = _scores(chance, name, schema, terms, counts) if scored else (None, None)
    joint = _joint(chance, name, terms, counts, scores)
    label = joint and joint_label(Counts(draws=draws, votes=joint.votes, lost=counts.lost), terms, joint.threshold)
    certificate, ood, label = in_agreement(terms, counts, certificate, ood, label)
    graded = _confidence(chance, name, terms, counts)
    confident = None
    if graded and certificate:
        confident = confidence(certificate, graded.reached, graded.thresholds, terms)
    further = terms.split.of_joint + terms.split.of_confidence > 0 or terms.two_sided or bool(scores and scores.alarm)
    return Receipt(
        schema=schema if schema != SCHEMA else schema_of(terms.law, prior, further),
        input=InputRecord(digest="sha256:" + "1" * 64, shape=(4, 2), low=-0.5, step=0.25, high=255.0, units="µ\x7f😀"),
        model=ModelRecord(name="a", version="1", digest="sha256:" + "2" * 64, runtime='none "at all" \\'),
        noise=_noise(terms.law, schema, draws),
        alpha=terms.alpha,
        split=split_record(terms.split),
        procedure=ProcedureRecord(
            name=name,
            target_radius=target.size if name == "target" else None,
            target=whole_ball(target) if name == "target" else None,
            max_draws=most,
            stop_reason=stop_reason(procedure, counts, most),
            radius_tolerance=tolerance if name == "precision" else None,
            menu_size=menu,
        ),
        votes=counts.votes,
        lost=counts.lost,
        scores=scores,
        robust_weight=weight,
        prior=prior,
        joint=joint,
        two_sided=terms.two_sided or None,
        confidence=graded,
        claims=claims(
            certificate if chance.random() < 0.95 else None,
            ood,
            mixture_claim(certificate, weight) if certificate and weight is not None else None,
            label,
            confident,
        ),
    )


def _terms(chance: random.Random, name: str, schema: str) -> tuple[Terms, int | None]:
    old = schema in (FIRST, WITH_TOLERANCE)
    menu = chance.choice((1, 3, 7)) if name == "fixed" and not old else None
    shares = chance.choice(SPLITS)
    split = AlphaSplit(of_class=shares[0], of_upper=shares[1], of_threshold=shares[2], of_interval=shares[3])
    if name == "fixed":
        split = class_alone(menu or 1)
    elif schema == SCHEMA and chance.random() < 0.3:
        split = replace(split, of_class=0.7 * split.of_class, of_joint=0.2 * split.of_class)
    anytime = schema == SCHEMA and PROCEDURES[name].anytime and name != "off"
    if name != "fixed" and schema == SCHEMA and chance.random() < 0.3:
        split = replace(split, of_class=0.7 * split.of_class, of_confidence=0.2 * split.of_class)
    law, foreseen = _law(chance, schema), anytime and chance.random() < 0.5
    terms = Terms(
        law=law,
        alpha=chance.choice((0.001, 0.05, 0.5, 1e-6, 1e-12)),
        split=split,
        classes=chance.choice((2, 3, 10)),
        kappa_upper=KAPPA if old else KAPPA_UPPER,
        prior=_prior(chance) if foreseen else None,
        two_sided=anytime and len(law.parts) == 1 and chance.random() < 0.3,
    )
    return terms, menu


def _law(chance: random.Random, schema: str) -> Guarantee:
    charge, kind = chance.choice((0.0, 2.0**-40, 1e-6, 0.01)), chance.random() if schema == SCHEMA else 1.0
    if kind < 0.2:
        categories = chance.randrange(2, 9)
        kept = chance.randrange(1, categories)
        changed = chance.randrange(1, categories - kept + 1)
        return ColumnsGuarantee((8,) * chance.randrange(1, 3), categories, kept, changed, charge)
    if kind < 0.3:
        return DeletionGuarantee(chance.choice((0.75, 0.9, 0.97)), 12, charge)
    return Gaussian(chance.choice((0.25, 16.0, 1e-3, 0.7)), charge)


def _target(chance: random.Random, law: Guarantee) -> Ball:
    """Of the law's own parts, from nothing to what cannot be reached."""
    sigmas = chance.choice((0.0, 0.5, 1.0, 2.0, 2.5, chance.uniform(0, 4), 9.0))
    others = [float(chance.randrange(2)) for _ in law.parts[1:]]
    first = float(int(sigmas)) if law.parts[0].whole else law.reach.size / 8 * sigmas
    return parse(law.parts, {part.norm: size for part, size in zip(law.parts, (first, *others), strict=True)})


def _prior(chance: random.Random) -> Prior:
    """Right ones and wrong ones, some of them sure, some of less than all, an atom twice among them."""
    atoms = tuple(chance.choice((0.0, 0.01, 0.3, 0.75, 1.0, chance.random())) for _ in range(chance.randrange(1, 5)))
    parts = [chance.choice((0.0, 1.0, chance.random())) for _ in atoms]
    whole = sum(parts) or 1.0
    weights = tuple(chance.choice((1.0, 1.0, 0.25)) * part / whole for part in parts)
    return Prior(atoms=atoms, weights=weights if sum(weights) else (*(0.0 for _ in atoms[1:]), 1.0))


def _draws(chance: random.Random, name: str) -> int:
    if name == "fixed":
        return chance.choice((1, 2, 100, 1000, 10_000, 100_000))
    return chance.choice((0, 1, 7, 32 * chance.randrange(1, 40), 32 * int(10 ** chance.uniform(0, 4)), 9_999_968))


def _counts(chance: random.Random, terms: Terms, draws: int) -> Counts:
    lost = chance.choice((0, 0, 0, draws // 50, min(draws, 64)))
    share = chance.choice((1.0, 0.999, 0.97, 0.9, 0.6, 0.5, 0.4, chance.random()))
    hits = round(share * (draws - lost))
    left = draws - lost - hits
    votes = [0] * terms.classes
    votes[chance.randrange(terms.classes)] = hits
    votes[chance.randrange(terms.classes)] += chance.choice((left, left // 2, 0))
    return Counts(draws=draws, votes=tuple(votes), lost=lost)


def _noise(law: Guarantee, schema: str, draws: int) -> NoiseRecord:
    sigma, norm, parameters = recorded(law.parameters)
    return NoiseRecord(
        stream="noise-v1" if law.name == "gaussian" else "another",
        law=law.name if schema == SCHEMA else None,
        sigma=sigma,
        norm=norm,
        parameters=parameters,
        charge=law.charge,
        key="3" * 32,
        key_id="4" * 12,
        start=0,
        stop=draws,
    )


def _scores(chance: random.Random, name: str, schema: str, terms: Terms, counts: Counts) -> tuple[ScoreRecord, Any]:
    old = schema in (FIRST, WITH_TOLERANCE)
    apart = name == "fixed" and not old
    draws, lost = (min(32, counts.draws), 0) if apart else (counts.draws, counts.lost)
    # A hundred thousand scores are as good as some thousand, repeated.
    few = 100.0 + 10 * np.random.default_rng(chance.getrandbits(32)).standard_normal(min(draws, 5_000))
    values = np.resize(few, draws)
    values[: draws // 40] = np.inf if chance.random() < 0.1 else values[: draws // 40]
    values[draws - lost :] = np.nan
    threshold = chance.choice((90.0, 100.0, 115.0, 140.0))
    sigmas = chance.choice((0.1, 0.5, 1.0, 3.0))
    radius = float(1 + int(sigmas)) if terms.law.parts[0].whole else terms.law.reach.size / 8 * sigmas
    alarm = AlarmTerms(
        far=0.05,
        radius=radius,
        of_median=chance.choice((0.01, 1e-6)),
        of_bound=chance.choice((0.1, 1e-6)),
        threshold=chance.choice((70.0, 90.0, threshold, 120.0)),
    )
    detector = Detector(
        alarm=alarm if schema == SCHEMA and name != "fixed" and chance.random() < 0.3 else None,
        threshold=threshold,
        radius=radius,
        score_draws=32,
        calibration=np.linspace(60.0, 140.0, chance.choice((1, 999))),
    )
    found = tally(values, terms, detector)
    ood = verdict(found, terms, detector.terms, certify=name != "fixed")
    counted = {each: getattr(found, each) for each in found.__slots__ if each not in ("draws", "lost", "above_alarm")}
    fixed = {each: getattr(detector.terms, each) for each in detector.terms.__slots__}
    fixed["alarm"] = alarm_record(detector.alarm, found.above_alarm)
    drawn = None if old else ScoreDraws(key=("5" if apart else "3") * 32, start=0, stop=draws, lost=lost)
    return ScoreRecord(**fixed, **counted, drawn=drawn), ood


def _joint(
    chance: random.Random, name: str, terms: Terms, counts: Counts, scores: ScoreRecord | None
) -> JointRecord | None:
    """Joint labels of the same draws: as many are out as scored above the threshold, some of whatever voted for none."""
    if not terms.split.of_joint or name == "off" or chance.random() < 0.2:
        return None
    known = counts.draws - counts.lost
    none = known - sum(counts.votes)
    out = scores.above if scores else chance.choice((0, known // 20, known // 2, known))
    left = out - chance.randint(max(0, out - sum(counts.votes)), min(none, out))
    votes = list(counts.votes)
    for label in chance.sample(range(len(votes)), len(votes)):
        taken = min(left, votes[label])
        votes[label], left = votes[label] - taken, left - taken
    return JointRecord(threshold=scores.threshold if scores else 115.0, votes=(*votes, out))


def _confidence(chance: random.Random, name: str, terms: Terms, counts: Counts) -> ConfidenceRecord | None:
    """Of the most votes some or all exceed each threshold, and of those some the next."""
    if not terms.split.of_confidence or name == "off" or chance.random() < 0.2:
        return None
    thresholds = chance.choice(
        ((0.5,), (0.25, 0.75), tuple(each / 16 for each in range(1, 16)), (2.0**-20, 1 - 2.0**-24))
    )
    reached, left = [], max(counts.votes)
    for _ in thresholds:
        left = chance.choice((left, left, left - left // 50, left // 2, 0 if chance.random() < 0.1 else left))
        reached.append(left)
    return ConfidenceRecord(thresholds=thresholds, reached=tuple(reached))


def _rewritten(chance: random.Random, text: str) -> str:
    """The same document otherwise written: its value is what is signed."""
    document = json.loads(text)
    keys = list(document["receipt"].items())
    chance.shuffle(keys)
    document["receipt"] = dict(keys)
    return json.dumps(document, indent=chance.choice((None, 2)), ensure_ascii=chance.random() < 0.5)


def _signed_again(document: dict[str, Any]) -> bytes:
    """Signed whatever it says: the canonical bytes of its form, if it has one."""
    text = json.dumps(document["receipt"], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    value = SIGNER._key.sign(b"certserve receipt\0" + text.encode()).hex()
    document["signature"]["value"] = value
    return json.dumps(document).encode()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, branches and leaves."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(each, (*path, key))


def _parent(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def _another(chance: random.Random, value: Any) -> Any:
    """Something else that could stand there, mostly of the same kind."""
    if chance.random() < 0.15:
        return chance.choice((None, True, -1, 0, 1, 1.5, "", "inf", "x", [], {}, 10**30, "0x1.8p+1", float(5).hex()))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + chance.choice((-1, 1, 32, -value, value, 10**18))
    if isinstance(value, str) and value.lstrip("-").startswith("0x"):
        number = float.fromhex(value)
        factors = (1 + 2.0**-52, 1 + 1e-11, 1 + 1e-7, 1.01, 0.5, 2.0, -1.0, 0.0, 1e300)
        return (number * chance.choice(factors) + chance.choice((0.0, 0.0, 1e-9, 1.0))).hex()
    if isinstance(value, str):
        return chance.choice(
            ("certified", "refuted", "undetermined", "cut", "target", "off", value[:-1], value.upper())
        )
    if isinstance(value, list):
        return value[:-1] if chance.random() < 0.5 else [*value, 0]
    return None


def _lie(chance: random.Random, text: str) -> Made:
    """Another value in one place of the record, signed again."""
    document = json.loads(text)
    path = chance.choice([*_places(document["receipt"])])
    parent = _parent(document["receipt"], path)
    action = chance.random()
    if action < 0.06 and isinstance(parent, dict):
        del parent[path[-1]]
    elif action < 0.12 and isinstance(parent, dict):
        parent["more"] = parent[path[-1]]
    else:
        parent[path[-1]] = _another(chance, parent[path[-1]])
    return _signed_again(document), SIGNER.public.hex()


def _claimed(chance: random.Random, text: str) -> Made:
    """A claim that is larger or smaller by about as much as is tolerated, signed again."""
    document = json.loads(text)
    claims = document["receipt"]["claims"]
    claim = chance.choice([claims[each] for each in ("certificate", "mixture", "joint") if claims.get(each)] or [{}])
    names = [name for name in ("radius", "p_a_lower", "p_b_upper", "p_lower") if claim.get(name)]
    if not names:
        return _lie(chance, text)
    name, factor = chance.choice(names), 1 + chance.choice((-1, 1)) * chance.choice((3e-10, 3e-9, 1e-5))
    claim[name] = (float.fromhex(claim[name]) * factor).hex()
    if name == "radius" and "ball" in claim:
        claim["ball"][0]["size"] = claim[name]
    return _signed_again(document), SIGNER.public.hex()


def _of_another_version(chance: random.Random, text: str) -> Made:
    """The name of another version over the same record, signed again; one of them is not known."""
    document = json.loads(text)
    document["receipt"]["schema"] = chance.choice((*VERSIONS, "certserve-receipt/0"))
    return _signed_again(document), SIGNER.public.hex()


_BALL = [
    {"norm": "l2", "size": (1.0).hex(), "units": "sigmas"},
    {"norm": "categories", "size": (1.0).hex(), "units": "columns"},
]


def _of_another_ball(chance: random.Random, text: str) -> Made:
    """A ball that is added, taken away, or has another size or another order, signed again."""
    document = json.loads(text)
    receipt = document["receipt"]
    places = ((receipt["procedure"], "target"), *((claim, "ball") for claim in receipt["claims"].values() if claim))
    record, name = chance.choice(places)
    if name not in record:
        record[name] = [{**each} for each in _BALL[: chance.randrange(1, 3)]]
    elif (kind := chance.randrange(4)) == 0:
        del record[name]
    elif kind == 1:
        record[name].reverse()
    else:
        part = record[name][kind - 2]
        part["size"] = chance.choice((0.0, 0.5, 1.0, 2.0, 64.0, float.fromhex(part["size"]) * (1 + 1e-11))).hex()
    return _signed_again(document), SIGNER.public.hex()


def _of_further_claims(chance: random.Random, text: str) -> Made:
    """A member of version 6 that is added, taken away or another one, signed again."""
    document = json.loads(text)
    receipt = document["receipt"]
    votes = [*receipt["votes"], chance.choice((0, 32))]
    given = {
        "two_sided": ((receipt, "two_sided"), (True, True, False)),
        "joint": ((receipt, "joint"), ({"threshold": (115.0).hex(), "votes": votes},)),
        "votes": ((receipt.get("joint", {}), "votes"), (votes, votes[:-1], [each // 2 for each in votes])),
        "share": ((receipt["split"], "of_joint"), ((0.1).hex(), (0.0).hex(), (1e-5).hex())),
    }
    for (record, member), values in chance.sample([*given.values()], chance.randrange(1, 3)):
        if member in record and member != "votes" and chance.random() < 0.5:
            del record[member]
        else:
            record[member] = chance.choice(values)
    if chance.random() < 0.8:
        receipt["schema"] = SIXTH
    return _signed_again(document), SIGNER.public.hex()


def _of_another_prior(chance: random.Random, text: str) -> Made:
    """A prior that is added, taken away or another one, or none at all, signed again; a version that goes with it."""
    document = json.loads(text)
    receipt = document["receipt"]
    if "prior" in receipt and chance.random() < 0.3:
        del receipt["prior"]
    else:
        prior = _prior(chance)
        atoms, weights = [*map(float.hex, prior.atoms)], [*map(float.hex, prior.weights)]
        wrong = chance.choice((None, None, (-0.25).hex(), (1.5).hex(), "inf", (1e308).hex()))
        if wrong is not None:
            place = chance.choice((atoms, weights))
            place[chance.randrange(len(place))] = wrong
        receipt["prior"] = {"atoms": atoms, "weights": weights[: len(weights) - (chance.random() < 0.1)]}
    if chance.random() < 0.8:
        receipt["schema"] = FIFTH if "prior" in receipt or receipt["noise"].get("law") == "columns" else SCHEMA
        receipt["schema"] = SIXTH if "of_joint" in receipt["split"] or "two_sided" in receipt else receipt["schema"]
    return _signed_again(document), SIGNER.public.hex()


def _unsigned(chance: random.Random, text: str) -> Made:
    """Another value in one place of the whole document, the signature left as it was."""
    document = json.loads(text)
    path = chance.choice([*_places(document)])
    parent = _parent(document, path)
    parent[path[-1]] = _another(chance, parent[path[-1]])
    return json.dumps(document).encode(), SIGNER.public.hex()


def _bytes(chance: random.Random, text: str) -> Made:
    """Other bytes: one changed, left out or put in, a field given twice, or something around the document."""
    data = bytearray(text.encode())
    at, kind = chance.randrange(len(data)), chance.randrange(6)
    if kind == 0:
        data[at] = chance.randrange(256)
    elif kind == 1:
        del data[at]
    elif kind == 2:
        data.insert(at, chance.choice(b' \t\n,:"0a}'))
    elif kind == 3:
        data[1:1] = b'"receipt":{},'
    elif kind == 4:
        data = bytearray(chance.choice((b"\xef\xbb\xbf", b" ", b"\n\t", b"\x0c", b"[")) + data)
    else:
        data += chance.choice((b"\n", b" ", b"{}", b"\x00"))
    return bytes(data), SIGNER.public.hex()


def _another_key(chance: random.Random, text: str) -> Made:
    """Judged by the key of somebody else, whose name the signature may even bear."""
    document = json.loads(text)
    if chance.random() < 0.5:
        document["signature"]["key_id"] = json.loads(OTHER.sign(_honest(chance)).to_text())["signature"]["key_id"]
    return json.dumps(document).encode(), OTHER.public.hex()


_ALTERED: tuple[Callable[[random.Random, str], Made], ...] = (
    _lie,
    _lie,
    _lie,
    _claimed,
    _of_another_version,
    _of_another_ball,
    _of_another_prior,
    _of_further_claims,
    _unsigned,
    _bytes,
    _another_key,
)
