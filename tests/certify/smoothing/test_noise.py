from __future__ import annotations

import bisect
import hashlib
import hmac
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from certify.smoothing.keys import derive_key, lattice_digest
from certify.smoothing.lattice_gaussian import NoiseTableError, RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails

SIGMAS = (0.7, 3.0, 63.75, 255.0)
KEY = bytes(range(16))


tails_of = cache(rounded_gaussian_tails)


def law_of(sigma):
    return RoundedGaussian(sigma, tails_of(sigma))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_every_boundary_is_the_exact_floor(sigma):
    with mpmath.workdps(60):
        for k, tail in enumerate(law_of(sigma).tails.tolist()):
            exact = mpmath.ncdf(-(mpmath.mpf(k) + mpmath.mpf("0.5")) / mpmath.mpf(sigma)) * 2**64
            assert tail <= exact < tail + 1


def test_the_first_words_are_philox():
    """Known answers of noise-v1: block 0 of lane 0 is Philox 4x64-10 on the counter (1, 0, 0, 0)."""
    words = np.random.Philox(key=np.frombuffer(KEY, dtype="<u8"), counter=[0, 0, 0, 0]).random_raw(4)
    assert words.tolist() == _philox(1, 0, 0, 0)


def _philox(*counter):
    """Philox 4x64-10 (Salmon et al. 2011) in plain integers, apart from numpy's."""
    key = [int.from_bytes(KEY[:8], "little"), int.from_bytes(KEY[8:], "little")]
    c = list(counter)
    for _ in range(10):
        first, second = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        mask = 2**64 - 1
        c = [second >> 64 ^ c[1] ^ key[0], second & mask, first >> 64 ^ c[3] ^ key[1], first & mask]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    return c


@pytest.mark.parametrize("coordinates", [1, 4, 16, 17])
def test_a_draw_follows_the_definition_word_by_word(coordinates):
    """The stream rebuilt from its definition with plain integers: prefix, refinement, boundaries."""
    law, blocks = law_of(0.7), -(-coordinates // 16)
    tails = law.tails.tolist()
    edges = [*tails[-2::-1], *(2**64 - tail for tail in tails[:-1])]
    for draw in (0, 1, 5):
        for j in range(coordinates):
            block = _philox(draw * blocks + j // 16 + 1, 0, 0, 0)
            prefix = block[j % 16 // 4] >> 16 * (j % 4) & 0xFFFF
            number = draw * coordinates + j
            refinement = _philox(number // 4 + 1, 0, 0, 1)[number % 4]
            uniform = prefix << 48 | refinement >> 16
            expected = sum(edge <= uniform for edge in edges) - (len(tails) - 1)
            assert law.sample(KEY, draw, draw + 1, coordinates)[0, j] == expected


@settings(max_examples=40)
@given(st.integers(0, 2**40), st.integers(1, 40), st.integers(1, 70), st.data())
def test_a_draw_does_not_depend_on_its_slice(start, rows, coordinates, data):
    law = law_of(3.0)
    cut = data.draw(st.integers(0, rows - 1))
    whole = law.sample(KEY, start, start + rows, coordinates)
    assert np.array_equal(whole[cut], law.sample(KEY, start + cut, start + cut + 1, coordinates)[0])


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_law_by_chi_square(sigma):
    """Half a million samples a law, seeded; a false alarm has probability 1e-6 a law."""
    law = law_of(sigma)
    sample = law.sample(KEY, 0, 500, 1_000).ravel()
    reach = int(4 * sigma) + 1
    tails = np.ldexp(law.tails.astype(float), -64)
    inside = tails[:reach] - tails[1 : reach + 1]  # P(Z = k), k = 1 ... reach
    expected = np.concatenate([[tails[reach]], inside[::-1], [1 - 2 * tails[0]], inside, [tails[reach]]]) * sample.size
    observed = np.bincount(np.clip(sample, -reach - 1, reach + 1) + reach + 1, minlength=2 * reach + 3)
    keep = expected > 5
    statistic = np.sum((observed[keep] - expected[keep]) ** 2 / expected[keep])
    assert statistic < chi2.isf(1e-6, keep.sum() - 1)


def test_coordinates_and_draws_are_uncorrelated():
    z = law_of(63.75).sample(KEY, 0, 4_000, 64).astype(float) / 63.75
    across = z.T @ z / len(z) - np.eye(64)
    serial = np.mean(z[1:] * z[:-1], axis=0)
    # Entries are about N(0, 1/4000); 4,160 of them at a joint false-alarm rate below 1e-6.
    assert max(np.abs(across - np.diag(np.diag(across))).max(), np.abs(serial).max()) < 6.5 / np.sqrt(4_000)


def test_refinement_is_used_and_right_where_a_prefix_is_open():
    """A wide law leaves many prefixes open; the refined share has to be that of the definition."""
    law = law_of(255.0)
    assert 0.01 < np.mean(law._by_prefix == -32768) < 0.04


@pytest.mark.parametrize(("sigma", "largest"), [(255.0, 255), (12_000.5, 32_768)])
def test_open_prefixes_are_refined_by_the_word_of_their_coordinate(sigma, largest):
    """Every open place of 7 draws from draw 3 on, by plain integers: lane 1, word `draw d + coordinate`, top 48 bits."""
    law, coordinates, first = law_of(sigma), 302, 3
    found = law.sample(KEY, first, first + 7, coordinates)
    tails = law.tails.tolist()
    edges = [*tails[-2::-1], *(2**64 - tail for tail in tails[:-1])]
    opened = 0
    for draw in range(first, first + 7):
        for j in range(coordinates):
            prefix = _philox(draw * 19 + j // 16 + 1, 0, 0, 0)[j % 16 // 4] >> 16 * (j % 4) & 0xFFFF
            if law._by_prefix[prefix] == -32768:
                number = draw * coordinates + j
                uniform = prefix << 48 | _philox(number // 4 + 1, 0, 0, 1)[number % 4] >> 16
                assert found[draw - first, j] == bisect.bisect_right(edges, uniform) - (len(tails) - 1)
                opened += 1
    assert opened > 20
    assert np.abs(found).max() > largest


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.astype(np.int64),
        lambda t: t[:-1],
        lambda t: np.append(t, np.uint64(0)),
        lambda t: (t.astype(float) * (1 - 2e-12)).astype(np.uint64),
        lambda t: np.where(np.arange(t.size) == 3, t + np.uint64(2**40), t),
        lambda t: rounded_gaussian_tails(3.001),
    ],
    ids=["type", "end", "zeros", "shrunk", "entry", "sigma"],
)
def test_another_table_is_refused(spoil):
    with pytest.raises(NoiseTableError, match=r"tails; got|rounded Gaussian with sigma_steps=3.0"):
        RoundedGaussian(3.0, spoil(law_of(3.0).tails))


def test_a_refusal_says_what_was_expected_and_which_entry_is_wrong():
    with pytest.raises(NoiseTableError, match=r"^expected 2 to 1048576 uint64 tails; got uint64 of shape \(1, 5\)$"):
        RoundedGaussian(3.0, law_of(3.0).tails[None, :5])
    for size in (1, 2**20 + 1):
        with pytest.raises(NoiseTableError, match=rf"got uint64 of shape \({size},\)$"):
            RoundedGaussian(3.0, np.zeros(size, dtype=np.uint64))
    wrong = law_of(3.0).tails.copy()
    wrong[3] += np.uint64(2**40)
    with pytest.raises(NoiseTableError, match=r"\(first wrong entry: 3\); export the bundle again$"):
        RoundedGaussian(3.0, wrong)


def test_the_narrowest_law_has_two_tails():
    narrow = rounded_gaussian_tails(0.06)
    assert narrow.size == 2
    assert not RoundedGaussian(0.06, narrow).sample(KEY, 0, 4, 16).any()


def test_rising_tails_are_refused_where_the_law_leaves_them_open():
    """Far out the law is known to one unit, so the second of two equal entries may be one more and stay within it."""
    tails = law_of(255.0).tails.copy()
    place = int(np.flatnonzero((tails[:-1] == tails[1:]) & (tails[:-1] > 0))[0])
    tails[place + 1] += np.uint64(1)
    with pytest.raises(NoiseTableError, match="rounded Gaussian"):
        RoundedGaussian(255.0, tails)


def test_the_total_variation_is_two_units_an_entry_and_what_doubles_know_of_the_law():
    law = law_of(3.0)
    allowed = 0
    for k in range(law.tails.size):
        z = mpmath.mpf(k + 0.5) / 3
        allowed += 2 * (1 + mpmath.mpf(1e-14) * (1 + z * z) * mpmath.ncdf(-z) * 2**64)
    assert law.total_variation * 2.0**64 == pytest.approx(float(allowed), rel=1e-9)
    assert Fraction(law.charge(3_072)) >= 3_072 * Fraction(law.total_variation)
    assert law.charge(3_072) == pytest.approx(3_072 * law.total_variation)


def test_the_charge_covers_every_boundary():
    law = law_of(63.75)
    assert 784 * 2 * law.tails.size * 2.0**-64 < law.charge(784) < 1e-9


def test_keys_by_their_definition():
    """The first 16 bytes of HMAC-SHA256 over stream, 0, bundle digest, input digest, and the menu's number if fixed."""
    x = np.arange(6).reshape(2, 3)
    lattice = hashlib.sha256(
        b"".join(n.to_bytes(8, "little") for n in (2, 2, 3)) + b"".join(n.to_bytes(4, "little") for n in range(6))
    ).digest()
    assert lattice_digest(x) == lattice
    for fixed, tail in ((None, b""), (70_000, b"fixed" + (70_000).to_bytes(8, "little"))):
        message = b"noise-v1\0" + b"digest" + lattice + tail
        assert derive_key(b"secret", b"digest", x, fixed) == hmac.new(b"secret", message, "sha256").digest()[:16]


def test_keys_depend_on_input_bundle_and_menu_alone():
    x = np.arange(6).reshape(2, 3)
    key = derive_key(b"secret" * 6, b"digest", x)
    assert len(key) == 16
    assert key == derive_key(b"secret" * 6, b"digest", x.astype(np.int16))
    others = [
        derive_key(b"Secret" * 6, b"digest", x),
        derive_key(b"secret" * 6, b"Digest", x),
        derive_key(b"secret" * 6, b"digest", x + (x == 5)),
        derive_key(b"secret" * 6, b"digest", x.reshape(3, 2)),
        derive_key(b"secret" * 6, b"digest", x, 1_000),
        derive_key(b"secret" * 6, b"digest", x, 10_000),
    ]
    assert len({key, *others}) == 7
    assert lattice_digest(x) != lattice_digest(x.T)


@pytest.mark.parametrize(("key", "start", "stop"), [(b"short", 0, 1), (KEY, 3, 3), (KEY, -1, 2)])
def test_a_wrong_range_or_key_is_refused(key, start, stop):
    with pytest.raises(ValueError, match="expected a key"):
        law_of(3.0).sample(key, start, stop, 4)
