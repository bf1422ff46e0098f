"""The SQL of what a workspace has spent in the present month of UTC."""

from __future__ import annotations

from typing import Final

# Over a row `w` of `workspaces`. A report of an earlier month says nothing of this month, and an
# agent that has spent nothing yet reports nothing: without the comparison an agent that met its
# limit in May would get no message in June, and could never spend and report less.
MONTH_SPEND: Final = """
    CASE WHEN coalesce(w.spend_reported_at, now()) >= date_trunc('month', now(), 'UTC')
         THEN w.monthly_spend ELSE 0 END
"""
