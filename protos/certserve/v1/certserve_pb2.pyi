import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CertifyMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CERTIFY_MODE_UNSPECIFIED: _ClassVar[CertifyMode]
    CERTIFY_MODE_OFF: _ClassVar[CertifyMode]
    CERTIFY_MODE_TARGET: _ClassVar[CertifyMode]
    CERTIFY_MODE_BEST: _ClassVar[CertifyMode]
    CERTIFY_MODE_FIXED: _ClassVar[CertifyMode]
    CERTIFY_MODE_PRECISION: _ClassVar[CertifyMode]

class Norm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NORM_UNSPECIFIED: _ClassVar[Norm]
    NORM_L2: _ClassVar[Norm]
    NORM_SCALED_L2: _ClassVar[Norm]

class AnswerPart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANSWER_PART_UNSPECIFIED: _ClassVar[AnswerPart]
    ANSWER_PART_PROBABILITIES: _ClassVar[AnswerPart]
    ANSWER_PART_CERTIFICATE: _ClassVar[AnswerPart]
    ANSWER_PART_OOD: _ClassVar[AnswerPart]
    ANSWER_PART_MIXTURE: _ClassVar[AnswerPart]
    ANSWER_PART_JOINT: _ClassVar[AnswerPart]
    ANSWER_PART_CONFIDENCE: _ClassVar[AnswerPart]
CERTIFY_MODE_UNSPECIFIED: CertifyMode
CERTIFY_MODE_OFF: CertifyMode
CERTIFY_MODE_TARGET: CertifyMode
CERTIFY_MODE_BEST: CertifyMode
CERTIFY_MODE_FIXED: CertifyMode
CERTIFY_MODE_PRECISION: CertifyMode
NORM_UNSPECIFIED: Norm
NORM_L2: Norm
NORM_SCALED_L2: Norm
ANSWER_PART_UNSPECIFIED: AnswerPart
ANSWER_PART_PROBABILITIES: AnswerPart
ANSWER_PART_CERTIFICATE: AnswerPart
ANSWER_PART_OOD: AnswerPart
ANSWER_PART_MIXTURE: AnswerPart
ANSWER_PART_JOINT: AnswerPart
ANSWER_PART_CONFIDENCE: AnswerPart

class PredictRequest(_message.Message):
    __slots__ = ("model", "version", "image", "grid", "values", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    image: Image
    grid: GridTensor
    values: ValueTensor
    options: Options
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., grid: _Optional[_Union[GridTensor, _Mapping]] = ..., values: _Optional[_Union[ValueTensor, _Mapping]] = ..., options: _Optional[_Union[Options, _Mapping]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("content", "content_type")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    content_type: str
    def __init__(self, content: _Optional[bytes] = ..., content_type: _Optional[str] = ...) -> None: ...

class GridTensor(_message.Message):
    __slots__ = ("shape", "data")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., data: _Optional[_Iterable[int]] = ...) -> None: ...

class ValueTensor(_message.Message):
    __slots__ = ("shape", "data")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., data: _Optional[_Iterable[float]] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("certify", "target_radius", "max_draws", "draws", "alpha", "deadline", "norm", "outputs", "snap", "receipt", "radius_tolerance", "top_k")
    CERTIFY_FIELD_NUMBER: _ClassVar[int]
    TARGET_RADIUS_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAWS_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SNAP_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    RADIUS_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    certify: CertifyMode
    target_radius: float
    max_draws: int
    draws: int
    alpha: float
    deadline: _duration_pb2.Duration
    norm: Norm
    outputs: _containers.RepeatedScalarFieldContainer[AnswerPart]
    snap: bool
    receipt: bool
    radius_tolerance: float
    top_k: int
    def __init__(self, certify: _Optional[_Union[CertifyMode, str]] = ..., target_radius: _Optional[float] = ..., max_draws: _Optional[int] = ..., draws: _Optional[int] = ..., alpha: _Optional[float] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., norm: _Optional[_Union[Norm, str]] = ..., outputs: _Optional[_Iterable[_Union[AnswerPart, str]]] = ..., snap: bool = ..., receipt: bool = ..., radius_tolerance: _Optional[float] = ..., top_k: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("predictions", "model")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    model: ModelIdentity
    def __init__(self, predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., model: _Optional[_Union[ModelIdentity, _Mapping]] = ...) -> None: ...

class StreamCertificateRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: PredictRequest
    def __init__(self, request: _Optional[_Union[PredictRequest, _Mapping]] = ...) -> None: ...

class StreamCertificateResponse(_message.Message):
    __slots__ = ("event", "row", "rows", "prediction", "model")
    class Event(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENT_UNSPECIFIED: _ClassVar[StreamCertificateResponse.Event]
        EVENT_BASE: _ClassVar[StreamCertificateResponse.Event]
        EVENT_CERTIFICATE: _ClassVar[StreamCertificateResponse.Event]
        EVENT_FINAL: _ClassVar[StreamCertificateResponse.Event]
    EVENT_UNSPECIFIED: StreamCertificateResponse.Event
    EVENT_BASE: StreamCertificateResponse.Event
    EVENT_CERTIFICATE: StreamCertificateResponse.Event
    EVENT_FINAL: StreamCertificateResponse.Event
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    event: StreamCertificateResponse.Event
    row: int
    rows: int
    prediction: Prediction
    model: ModelIdentity
    def __init__(self, event: _Optional[_Union[StreamCertificateResponse.Event, str]] = ..., row: _Optional[int] = ..., rows: _Optional[int] = ..., prediction: _Optional[_Union[Prediction, _Mapping]] = ..., model: _Optional[_Union[ModelIdentity, _Mapping]] = ...) -> None: ...

class ModelIdentity(_message.Message):
    __slots__ = ("name", "version", "digest", "runtime")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    runtime: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., runtime: _Optional[str] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("label", "class_index", "probabilities", "certificate", "ood", "mixture", "alpha", "alpha_split", "draws", "lost_draws", "input", "receipt", "granted_draws", "scores", "top", "joint", "confidence")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    OOD_FIELD_NUMBER: _ClassVar[int]
    MIXTURE_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    ALPHA_SPLIT_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    LOST_DRAWS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    GRANTED_DRAWS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    JOINT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_index: int
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    certificate: Certificate
    ood: Ood
    mixture: Mixture
    alpha: float
    alpha_split: AlphaSplit
    draws: int
    lost_draws: int
    input: InputNote
    receipt: str
    granted_draws: int
    scores: _containers.RepeatedScalarFieldContainer[float]
    top: Top
    joint: Joint
    confidence: Confidence
    def __init__(self, label: _Optional[str] = ..., class_index: _Optional[int] = ..., probabilities: _Optional[_Iterable[float]] = ..., certificate: _Optional[_Union[Certificate, _Mapping]] = ..., ood: _Optional[_Union[Ood, _Mapping]] = ..., mixture: _Optional[_Union[Mixture, _Mapping]] = ..., alpha: _Optional[float] = ..., alpha_split: _Optional[_Union[AlphaSplit, _Mapping]] = ..., draws: _Optional[int] = ..., lost_draws: _Optional[int] = ..., input: _Optional[_Union[InputNote, _Mapping]] = ..., receipt: _Optional[str] = ..., granted_draws: _Optional[int] = ..., scores: _Optional[_Iterable[float]] = ..., top: _Optional[_Union[Top, _Mapping]] = ..., joint: _Optional[_Union[Joint, _Mapping]] = ..., confidence: _Optional[_Union[Confidence, _Mapping]] = ...) -> None: ...

class Top(_message.Message):
    __slots__ = ("labels", "numbers")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., numbers: _Optional[_Iterable[float]] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("status", "label", "radius", "norm", "sigma", "p_a_lower", "p_b_upper", "procedure", "target_radius", "radius_tolerance", "reaches_others", "two_sided")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[Certificate.Status]
        STATUS_CERTIFIED: _ClassVar[Certificate.Status]
        STATUS_REFUTED: _ClassVar[Certificate.Status]
        STATUS_UNDECIDED: _ClassVar[Certificate.Status]
    STATUS_UNSPECIFIED: Certificate.Status
    STATUS_CERTIFIED: Certificate.Status
    STATUS_REFUTED: Certificate.Status
    STATUS_UNDECIDED: Certificate.Status
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    P_A_LOWER_FIELD_NUMBER: _ClassVar[int]
    P_B_UPPER_FIELD_NUMBER: _ClassVar[int]
    PROCEDURE_FIELD_NUMBER: _ClassVar[int]
    TARGET_RADIUS_FIELD_NUMBER: _ClassVar[int]
    RADIUS_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    REACHES_OTHERS_FIELD_NUMBER: _ClassVar[int]
    TWO_SIDED_FIELD_NUMBER: _ClassVar[int]
    status: Certificate.Status
    label: str
    radius: float
    norm: Norm
    sigma: float
    p_a_lower: float
    p_b_upper: float
    procedure: CertifyMode
    target_radius: float
    radius_tolerance: float
    reaches_others: bool
    two_sided: bool
    def __init__(self, status: _Optional[_Union[Certificate.Status, str]] = ..., label: _Optional[str] = ..., radius: _Optional[float] = ..., norm: _Optional[_Union[Norm, str]] = ..., sigma: _Optional[float] = ..., p_a_lower: _Optional[float] = ..., p_b_upper: _Optional[float] = ..., procedure: _Optional[_Union[CertifyMode, str]] = ..., target_radius: _Optional[float] = ..., radius_tolerance: _Optional[float] = ..., reaches_others: bool = ..., two_sided: bool = ...) -> None: ...

class Ood(_message.Message):
    __slots__ = ("score", "p_value", "in_distribution", "threshold", "certified", "robust_alarm")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[Ood.Verdict]
        VERDICT_IN_DISTRIBUTION: _ClassVar[Ood.Verdict]
        VERDICT_OUT_OF_DISTRIBUTION: _ClassVar[Ood.Verdict]
        VERDICT_UNDETERMINED: _ClassVar[Ood.Verdict]
    VERDICT_UNSPECIFIED: Ood.Verdict
    VERDICT_IN_DISTRIBUTION: Ood.Verdict
    VERDICT_OUT_OF_DISTRIBUTION: Ood.Verdict
    VERDICT_UNDETERMINED: Ood.Verdict
    class Certified(_message.Message):
        __slots__ = ("verdict", "score_lower", "score_upper", "radius", "reaches_others")
        VERDICT_FIELD_NUMBER: _ClassVar[int]
        SCORE_LOWER_FIELD_NUMBER: _ClassVar[int]
        SCORE_UPPER_FIELD_NUMBER: _ClassVar[int]
        RADIUS_FIELD_NUMBER: _ClassVar[int]
        REACHES_OTHERS_FIELD_NUMBER: _ClassVar[int]
        verdict: Ood.Verdict
        score_lower: float
        score_upper: float
        radius: float
        reaches_others: bool
        def __init__(self, verdict: _Optional[_Union[Ood.Verdict, str]] = ..., score_lower: _Optional[float] = ..., score_upper: _Optional[float] = ..., radius: _Optional[float] = ..., reaches_others: bool = ...) -> None: ...
    class RobustAlarm(_message.Message):
        __slots__ = ("raised", "radius", "false_alarms")
        RAISED_FIELD_NUMBER: _ClassVar[int]
        RADIUS_FIELD_NUMBER: _ClassVar[int]
        FALSE_ALARMS_FIELD_NUMBER: _ClassVar[int]
        raised: bool
        radius: float
        false_alarms: float
        def __init__(self, raised: bool = ..., radius: _Optional[float] = ..., false_alarms: _Optional[float] = ...) -> None: ...
    SCORE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    IN_DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_FIELD_NUMBER: _ClassVar[int]
    ROBUST_ALARM_FIELD_NUMBER: _ClassVar[int]
    score: float
    p_value: float
    in_distribution: bool
    threshold: float
    certified: Ood.Certified
    robust_alarm: Ood.RobustAlarm
    def __init__(self, score: _Optional[float] = ..., p_value: _Optional[float] = ..., in_distribution: bool = ..., threshold: _Optional[float] = ..., certified: _Optional[_Union[Ood.Certified, _Mapping]] = ..., robust_alarm: _Optional[_Union[Ood.RobustAlarm, _Mapping]] = ...) -> None: ...

class Mixture(_message.Message):
    __slots__ = ("label", "probabilities", "robust_weight", "radius", "reaches_others", "top")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    ROBUST_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    REACHES_OTHERS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    label: str
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    robust_weight: float
    radius: float
    reaches_others: bool
    top: Top
    def __init__(self, label: _Optional[str] = ..., probabilities: _Optional[_Iterable[float]] = ..., robust_weight: _Optional[float] = ..., radius: _Optional[float] = ..., reaches_others: bool = ..., top: _Optional[_Union[Top, _Mapping]] = ...) -> None: ...

class Joint(_message.Message):
    __slots__ = ("verdict", "label", "p_lower", "radius", "reaches_others", "norm", "threshold")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    P_LOWER_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    REACHES_OTHERS_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    verdict: Ood.Verdict
    label: str
    p_lower: float
    radius: float
    reaches_others: bool
    norm: Norm
    threshold: float
    def __init__(self, verdict: _Optional[_Union[Ood.Verdict, str]] = ..., label: _Optional[str] = ..., p_lower: _Optional[float] = ..., radius: _Optional[float] = ..., reaches_others: bool = ..., norm: _Optional[_Union[Norm, str]] = ..., threshold: _Optional[float] = ...) -> None: ...

class Confidence(_message.Message):
    __slots__ = ("label", "lower", "lower_at_input", "radius", "reaches_others", "norm")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    LOWER_AT_INPUT_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    REACHES_OTHERS_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    label: str
    lower: float
    lower_at_input: float
    radius: float
    reaches_others: bool
    norm: Norm
    def __init__(self, label: _Optional[str] = ..., lower: _Optional[float] = ..., lower_at_input: _Optional[float] = ..., radius: _Optional[float] = ..., reaches_others: bool = ..., norm: _Optional[_Union[Norm, str]] = ...) -> None: ...

class AlphaSplit(_message.Message):
    __slots__ = ("class_share", "upper_share", "threshold_share", "interval_share", "joint_share", "confidence_share")
    CLASS_SHARE_FIELD_NUMBER: _ClassVar[int]
    UPPER_SHARE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_SHARE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_SHARE_FIELD_NUMBER: _ClassVar[int]
    JOINT_SHARE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_SHARE_FIELD_NUMBER: _ClassVar[int]
    class_share: float
    upper_share: float
    threshold_share: float
    interval_share: float
    joint_share: float
    confidence_share: float
    def __init__(self, class_share: _Optional[float] = ..., upper_share: _Optional[float] = ..., threshold_share: _Optional[float] = ..., interval_share: _Optional[float] = ..., joint_share: _Optional[float] = ..., confidence_share: _Optional[float] = ...) -> None: ...

class InputNote(_message.Message):
    __slots__ = ("snapped", "snap_distance", "treated")
    SNAPPED_FIELD_NUMBER: _ClassVar[int]
    SNAP_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    TREATED_FIELD_NUMBER: _ClassVar[int]
    snapped: bool
    snap_distance: float
    treated: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, snapped: bool = ..., snap_distance: _Optional[float] = ..., treated: _Optional[_Iterable[str]] = ...) -> None: ...
