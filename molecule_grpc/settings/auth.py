"""Who gets in."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import SECONDS, SWITCH, setting, short

_MIN_TOKEN_LENGTH = 24
_MIN_DISTINCT_CHARACTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Tokens, and what is open to callers without a token.

    Args:
        admin_token: the operator's token; empty for the one that the first start mints. Production
            wants at least 24 characters, 10 of them different.
        open_bootstrap: admin calls pass while no token of any kind is live.
        open_registration: an agent of a workspace without a live token may register.
        test_tokens: serves `/admin/workspaces/{id}/test-token`.
        public_workspace_view: strangers may see that a workspace exists.
        token_cache_seconds: how long a token is known without asking the database.
    """

    admin_token: str = setting("ADMIN_TOKEN", short(512), "", secret=True)
    open_bootstrap: bool = setting("MOLECULE_OPEN_BOOTSTRAP", SWITCH, False)
    open_registration: bool = setting("MOLECULE_OPEN_REGISTRATION", SWITCH, False)
    test_tokens: bool = setting("MOLECULE_ENABLE_TEST_TOKENS", SWITCH, False)
    public_workspace_view: bool = setting("MOLECULE_PUBLIC_WORKSPACE_VIEW", SWITCH, False)
    token_cache_seconds: float = setting("MOLECULE_TOKEN_CACHE_SECONDS", SECONDS, 30.0)

    @property
    def open_doors(self) -> dict[str, bool]:
        """The switches that let strangers in, by variable. Production refuses them."""
        return {
            "MOLECULE_OPEN_BOOTSTRAP": self.open_bootstrap,
            "MOLECULE_OPEN_REGISTRATION": self.open_registration,
            "MOLECULE_ENABLE_TEST_TOKENS": self.test_tokens,
        }

    @property
    def guessable(self) -> bool:
        """Whether `admin_token` is set and could be guessed."""
        return bool(self.admin_token) and (
            len(self.admin_token) < _MIN_TOKEN_LENGTH
            or len(set(self.admin_token)) < _MIN_DISTINCT_CHARACTERS
        )
