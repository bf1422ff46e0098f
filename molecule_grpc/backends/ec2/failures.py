"""What Amazon answers, as typed failures with a sentence that names none of its internals."""

from __future__ import annotations

from typing import Final, NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  (botocore's own)
    ConnectTimeoutError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ReadTimeoutError,
)

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason

_NOT_FOUND: Final = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
MISMATCH: Final = "IdempotentParameterMismatch"
WRONG_STATE: Final = "IncorrectInstanceState"


class _Meaning(NamedTuple):
    reason: FailureReason
    public: str
    retryable: bool = False


_FORBIDDEN: Final = _Meaning(
    FailureReason.FORBIDDEN, "EC2 refuses the platform's credentials or permissions"
)
_QUOTA: Final = _Meaning(FailureReason.QUOTA, "the account's quota of EC2 is used up")
_CAPACITY: Final = _Meaning(
    FailureReason.CAPACITY, "EC2 has no machine of this type free at present", retryable=True
)
_THROTTLED: Final = _Meaning(FailureReason.THROTTLED, "EC2 asks to slow down", retryable=True)
_BUSY: Final = _Meaning(FailureReason.ENGINE, "EC2 has failed", retryable=True)
_IMAGE: Final = _Meaning(
    FailureReason.IMAGE_MISSING, "the machine image of the launch template is not there"
)
_TEMPLATE: Final = _Meaning(
    FailureReason.CONFIGURATION, "the launch template of the runtime is not there"
)

_BY_CODE: Final = {
    "InstanceLimitExceeded": _QUOTA,
    "VcpuLimitExceeded": _QUOTA,
    "MaxSpotInstanceCountExceeded": _QUOTA,
    "VolumeLimitExceeded": _QUOTA,
    "AddressLimitExceeded": _QUOTA,
    "ResourceLimitExceeded": _QUOTA,
    "InsufficientInstanceCapacity": _CAPACITY,
    "InsufficientHostCapacity": _CAPACITY,
    "InsufficientReservedInstanceCapacity": _CAPACITY,
    "InsufficientCapacity": _CAPACITY,
    "InsufficientFreeAddressesInSubnet": _CAPACITY,
    "SpotMaxPriceTooLow": _CAPACITY,
    "RequestLimitExceeded": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "EC2ThrottledException": _THROTTLED,
    "InternalError": _BUSY,
    "InternalFailure": _BUSY,
    "Unavailable": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InvalidAMIID.NotFound": _IMAGE,
    "InvalidAMIID.Malformed": _IMAGE,
    "InvalidAMIID.Unavailable": _IMAGE,
    "InvalidLaunchTemplateId.NotFound": _TEMPLATE,
    "InvalidLaunchTemplateId.Malformed": _TEMPLATE,
    "InvalidLaunchTemplateName.NotFoundException": _TEMPLATE,
    "InvalidLaunchTemplateId.VersionNotFound": _TEMPLATE,
    "UnauthorizedOperation": _FORBIDDEN,
    "AuthFailure": _FORBIDDEN,
    "AccessDenied": _FORBIDDEN,
    "AccessDeniedException": _FORBIDDEN,
    "InvalidClientTokenId": _FORBIDDEN,
    "UnrecognizedClientException": _FORBIDDEN,
    "SignatureDoesNotMatch": _FORBIDDEN,
    "OptInRequired": _FORBIDDEN,
    "ExpiredToken": _FORBIDDEN,
    "ExpiredTokenException": _FORBIDDEN,
    "RequestExpired": _FORBIDDEN,
    "PendingVerification": _FORBIDDEN,
}
_REFUSED: Final = _Meaning(FailureReason.CONFIGURATION, "EC2 refuses what it was asked for")
_SERVER_ERROR: Final = 500


def code_of(error: ClientError) -> str:
    """Amazon's name of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: ClientError) -> bool:
    """Whether Amazon does not know the machine that was named."""
    return code_of(error) in _NOT_FOUND


def failure_of(error: Exception) -> BackendFailure:
    """The failure that an error of boto3 is."""
    if isinstance(error, ClientError):
        return _answered(error)
    if isinstance(error, ReadTimeoutError):
        return BackendFailure(
            FailureReason.TIMEOUT, "EC2 took too long", detail=str(error), retryable=True
        )
    if isinstance(error, NoCredentialsError | PartialCredentialsError | NoRegionError):
        return BackendFailure(
            FailureReason.FORBIDDEN,
            "the platform has no credentials for EC2",
            detail=str(error),
            undone=True,
        )
    # A connection that was never made has changed nothing; one that broke may have.
    never = isinstance(error, ConnectionError | ConnectTimeoutError)
    if isinstance(error, HTTPClientError | ConnectionError | ConnectTimeoutError):
        return BackendFailure(
            FailureReason.UNREACHABLE,
            "EC2 cannot be reached",
            detail=str(error),
            retryable=True,
            undone=never,
        )
    assert isinstance(error, BotoCoreError)
    return BackendFailure(
        FailureReason.ENGINE, "EC2's answer cannot be understood", detail=str(error)
    )


def by_state_reason(code: str) -> BackendFailure:
    """Why a machine ended while it started, as Amazon's `StateReason` says."""
    name = code.rpartition(".")[2]
    meaning = _BY_CODE.get(name) or _Meaning(
        FailureReason.EXITED, "the machine ended while it started"
    )
    return BackendFailure(meaning.reason, meaning.public, detail=code)


def _answered(error: ClientError) -> BackendFailure:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    meaning = _BY_CODE.get(code_of(error), _BUSY if status >= _SERVER_ERROR else _REFUSED)
    return BackendFailure(
        meaning.reason,
        meaning.public,
        detail=str(error),
        retryable=meaning.retryable,
        # An answer of the server's own failure says nothing about what was done.
        undone=meaning is not _BUSY,
    )
