"""Secrets that begin as their vendor wants, and that have no family in `redaction`."""

from __future__ import annotations

import re

# What every token of a vendor begins with, case-sensitively. A secret follows.
_STARTS = re.findall(
    r"\S+",
    """
    AGE-SECRET-KEY-1 AIK_CI_ AIK_CLIENT_ AIK_SECRET_ ATATT3 ATCTT3 ATBB AstraCS: BBDC- CCIPAT_
    CCIPRJ_ CLOJARS_ FLWPUBK- FLWPUBK_ FLWSECK- FLWSECK_ GR1348941 PMAK- PMAT- SWMKEY-1-
    SWMTKN-1- api_live. api_live_ca. api_live_us. apify_api_ api_org_ bkat_ bkua_ csk- dckr_oat_
    dckr_pat_ doo_v1_ dop_v1_ dor_v1_ dp.ct. dp.pt. dp.sa. dp.scim. dp.st. dt0c01. duffel_live_
    duffel_test_ dvc_client_ dvc_mobile_ dvc_server_ figd_ figu_ fio-u- fm1_ fm2_ fo1_ glagent-
    glc_ glcbt- gldt- glffct- glft- glimt- gloas- glptt- glrt- glrtr- glsa_ glsoat- gsk_ hvb.
    hvs. lin_api_ lin_oauth_ lip_ mlsn. npm_ ntn_ nvapi- os_v2_app_ os_v2_org_ packagist_acs_
    packagist_ort_ packagist_out_ persona_production_ persona_sandbox_ phc_ phx_ pina_ polar_at_
    polar_oat_ polar_pat_ prf_ prf_cli_ pscale_oauth_ pscale_pw_ pscale_tkn_ pypi-AgE r8_ rdme_
    rootly_ rpa_ rubygems_ samsara_api_ sbp_ shpat_ shpca_ shppa_ shpss_ sk_car_ sm_aat_ sm_pat_
    sm_sat_ sntrys_ sntryu_ sq0atp- sq0csp- tfp_ tskey-api- tskey-auth- tskey-client- tss_ ucat_
    unkey_ vtwn_ waka_ whsec_ xai- zpka_
    """,
)
# What names begin with as well: a secret has digits and letters of both cases, or many digits.
_WEAK_STARTS = re.findall(
    r"\S+",
    """
    A3- API- BSA EAAA EAAM EAAC EZAK EZTK SG. SK cog_ csa_ dapi hf_ ico- p8e- pul- re_ rnd_
    s-s4t2af- s-s4t2ud- secret_ v1.0-
    """,
)

_RUN = r"[A-Za-z0-9_-]"
_TAIL = rf"(?:[.=+/~]+{_RUN}+)*(?:=+{_RUN}*)*"


def _any_of(starts: list[str]) -> str:
    return "|".join(re.escape(start) for start in sorted(starts, key=len, reverse=True))


PATTERN = re.compile(
    rf"(?<![A-Za-z0-9_-])(?:(?P<weak>{_any_of(_WEAK_STARTS)})|(?:{_any_of(_STARTS)}))"
    rf"(?P<value>{_RUN}+{_TAIL})"
)
HINTS = tuple(dict.fromkeys(start.lower() for start in (*_STARTS, *_WEAK_STARTS)))

_SEPARATORS = str.maketrans("", "", "-_.=+/~")
_SHORTEST = 8
_LONG = 30


def is_drawn(match: re.Match[str]) -> bool:
    """Whether what follows the start was drawn at random rather than written in words."""
    value = match["value"]
    letters = value.translate(_SEPARATORS)
    digits, capitals = sum(map(str.isdigit, letters)), sum(map(str.isupper, letters))
    small = len(letters) - digits - capitals
    if match["weak"] is not None:
        return len(letters) >= 16 and (
            digits >= 6
            or (digits >= 2 and capitals >= 2 and small >= 2)
            or (letters == value and len(letters) >= _LONG)
        )
    if len(letters) < _SHORTEST:
        return False
    return digits >= 2 or (capitals >= 3 and small >= 3) or len(letters) >= _LONG
