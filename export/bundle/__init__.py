"""The bundle: a folder that holds one model with all that its guarantees rest on. This package alone knows the format.

    manifest.json          strict: an unknown key or format refuses to load; it names the SHA-256 of every other file
    base.onnx              lattice int32 [n, *shape] -> probabilities float32 [n, C]
    noisy.onnx             lattice int32 [n, *shape] -> vote int64 [n] (C stands for "none"), score float32 [n]
                           (either may take int16 or float16, where that holds all that noise may make of an input)
    noise.safetensors      tails uint64, the exact law of the noise
    golden.safetensors     inputs and the outputs that a runtime has to reproduce before it serves
    calibration.safetensors  scores float64, sorted (only with an OOD head)

The digest of a bundle is the SHA-256 of `manifest.json`, and so covers every file. There is no pickle. `manifest` is what
a bundle declares, of parts with a module each; `tensors` what its tensor files have to hold; `files` reads and writes the
folder; `repository` finds the bundles of all models. Whatever is missing, unknown, altered or absurd is a `BundleError` of
one line, which names the file and how to mend it.
"""

from export.bundle.claims_spec import (
    FURTHER,
    AlarmSpec,
    ArgmaxRule,
    ClaimSpec,
    ClaimsSpec,
    Defaults,
    MixtureSpec,
    OodSpec,
    PriorSpec,
    claims,
    with_further,
)
from export.bundle.files import Bundle, load, write
from export.bundle.graph_spec import GraphPrecision, Graphs, graphs
from export.bundle.input_spec import FeaturesKind, GridSpec, InputSpec, WaveformKind
from export.bundle.law_spec import GaussianSpec
from export.bundle.manifest import FORMAT, Manifest
from export.bundle.picture_spec import ImageKind, Resize, Treatments
from export.bundle.provenance import Provenance, SourceFile, UsedData
from export.bundle.repository import load_repository, manifests
from export.bundle.schema import BundleError
from export.bundle.tensors import Golden

__all__ = [
    "FORMAT",
    "FURTHER",
    "AlarmSpec",
    "ArgmaxRule",
    "Bundle",
    "BundleError",
    "ClaimSpec",
    "ClaimsSpec",
    "Defaults",
    "FeaturesKind",
    "GaussianSpec",
    "Golden",
    "Graphs",
    "GridSpec",
    "ImageKind",
    "InputSpec",
    "Manifest",
    "MixtureSpec",
    "OodSpec",
    "GraphPrecision",
    "PriorSpec",
    "Provenance",
    "Resize",
    "SourceFile",
    "Treatments",
    "UsedData",
    "WaveformKind",
    "claims",
    "graphs",
    "load",
    "load_repository",
    "manifests",
    "with_further",
    "write",
]
