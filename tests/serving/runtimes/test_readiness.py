"""What a runtime of a device has to show before it serves, and that what is wrong on a device is found: on the fake one."""

from __future__ import annotations

import numpy as np
import pytest

from serving.models.proof import ProofError, prove
from tests.half_space import write_half_space
from tests.serving.runtimes.fake_runtime import ON_FAKE_DEVICE


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture
def runtime(request, bundle):
    """Of one library, unless a test asks for both."""
    provider = getattr(request, "param", "fake-cuda")
    return ON_FAKE_DEVICE[provider](bundle, provider)


@pytest.mark.parametrize("runtime", ["fake-cuda", "fake-tensorrt"], indirect=True)
@pytest.mark.parametrize("place", [0, 1])
def test_each_place_of_a_batch_in_flight_is_compared_with_what_was_proven(bundle, runtime, place):
    """One of the two has a network that rounds otherwise."""
    lane = runtime._line._free[place]
    finish = lane.finish

    def otherwise():
        results = finish()
        results["score"][-1] = np.nextafter(results["score"][-1], np.float32(np.inf))
        return results

    lane.finish = otherwise
    with pytest.raises(ProofError, match="'score' differs by what else is asked of"):
        prove(bundle, runtime, 8)


@pytest.mark.parametrize("graph", ["_noisy", "_base"])
def test_an_answer_that_depends_on_its_place_in_the_batch_is_found(bundle, runtime, graph):
    network = getattr(runtime, graph)
    run = network.run

    def by_place(lattice):
        found = run(lattice)
        name = "score" if graph == "_noisy" else "probabilities"
        found[name] = found[name].copy()
        found[name][3] = np.nextafter(found[name][3], np.float32(np.inf))
        return found

    network.run = by_place
    with pytest.raises(ProofError, match="depends on its place in the batch"):
        prove(bundle, runtime, 8)


def test_noise_that_is_off_by_one_in_one_value_is_found(bundle, runtime, monkeypatch):
    inputs = runtime._line.inputs

    def off(parts):
        rows = inputs(parts)
        rows[-1, 0] += 1
        return rows

    monkeypatch.setattr(runtime._line, "inputs", off)
    with pytest.raises(ProofError, match="draws other noise than the definition"):
        prove(bundle, runtime, 8)


def test_golden_outputs_of_another_network_are_found(bundle, runtime):
    run = runtime._noisy.run

    def another(lattice):
        return run(lattice) | {"vote": 1 - run(lattice)["vote"]}

    runtime._noisy.run = another
    with pytest.raises(ProofError, match="'vote' differs|golden votes differ"):
        prove(bundle, runtime, 8)
