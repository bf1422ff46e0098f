"""Which rows of `memories` anybody may see: the one piece of SQL that every read uses."""

from __future__ import annotations


def visible(m: str = "m", organization: str = "") -> str:
    """SQL: a memory that has not expired, in a namespace that has not, of an author who is trusted.

    True for superseded memories and for those whose validity is over or has not begun: they are
    history. See `current`.

    Args:
        m: alias of the row of `memories`.
        organization: SQL for the organisation of all rows, of a statement that reads many: what has
            expired and who is hidden is then looked up once, and not for each row.
    """
    if not organization:
        return f"""({unexpired(m)} AND {trusted(f"{m}.organization_id", f"{m}.author_id")})"""
    return f"""({m}.expires_at IS NULL OR {m}.expires_at > now())
        AND {m}.namespace <> ALL (ARRAY(
            SELECT gone.name FROM memory_namespaces gone
            WHERE gone.organization_id = {organization} AND gone.expires_at <= now()
        ))
        AND ({m}.author_id IS NULL OR {m}.author_id <> ALL (ARRAY(
            SELECT distrusted.author_id FROM memory_quarantine distrusted
            WHERE distrusted.organization_id = {organization}
        )))"""


def unexpired(m: str = "m") -> str:
    """SQL: neither the memory nor its namespace has expired.

    IS TRUE: by the name, and not by the index of those that expire.
    """
    return f"""(({m}.expires_at IS NULL OR {m}.expires_at > now()) AND NOT EXISTS (
        SELECT FROM memory_namespaces gone
        WHERE gone.organization_id = {m}.organization_id AND gone.name = {m}.namespace
          AND (gone.expires_at <= now()) IS TRUE
    ))"""


def trusted(organization_id: str, author_id: str) -> str:
    """SQL: no operator hides what this author wrote.

    Args:
        organization_id: SQL for the organisation.
        author_id: SQL for the author of a text; may be NULL.
    """
    return f"""NOT EXISTS (
        SELECT FROM memory_quarantine distrusted
        WHERE distrusted.organization_id = {organization_id}
          AND distrusted.author_id = {author_id}
    )"""


def beside(x: str, m: str) -> str:
    """SQL: two memories of one namespace. IS TRUE: no index of namespaces shall find the first."""
    return f"""({x}.organization_id = {m}.organization_id) IS TRUE
            AND ({x}.namespace = {m}.namespace) IS TRUE"""


def replaced(m: str = "m") -> str:
    """SQL: another memory of the namespace has taken the place of this one.

    What a hidden author put in the place of a memory counts for nothing while the author is hidden,
    unless a memory of somebody else has taken the place of that one. A memory that was forgotten
    counts as one of somebody else.
    """
    distrusted = f"NOT {trusted('w.organization_id', 'w.author_id')}"
    # Not EXISTS: Postgres may answer that from a table of all memories.
    return f"""({m}.superseded_by IS NOT NULL AND (
        (
            SELECT true FROM memories w
            WHERE w.id = {m}.superseded_by AND {beside("w", m)} AND {distrusted} LIMIT 1
        ) IS NULL
        OR (
            WITH RECURSIVE later (next, distrusted) AS (
                SELECT w.superseded_by, {distrusted} FROM memories w
                WHERE w.id = {m}.superseded_by AND {beside("w", m)}
                UNION
                SELECT w.superseded_by, {distrusted}
                FROM later JOIN memories w ON w.id = later.next AND {beside("w", m)}
                WHERE later.distrusted
            )
            SELECT true FROM later
            WHERE NOT later.distrusted OR later.next IS NOT NULL AND (
                SELECT true FROM memories w WHERE w.id = later.next AND {beside("w", m)} LIMIT 1
            ) IS NULL
            LIMIT 1
        ) IS NOT NULL
    ))"""


def holding(m: str = "m") -> str:
    """SQL: a memory that holds now, whether or not anybody may see it."""
    return f"""(NOT {replaced(m)} AND {m}.valid_from <= now()
        AND ({m}.valid_to IS NULL OR {m}.valid_to > now()))"""


def current(m: str = "m", organization: str = "") -> str:
    """SQL: a visible memory that holds now. For `organization` see `visible`."""
    return f"({holding(m)} AND {visible(m, organization)})"


def current_plainly(m: str = "m") -> str:
    """SQL: like `current`, where no author is hidden and no namespace has expired.

    Short: what `current` looks up takes longer to plan than a search takes to run.
    """
    return f"""({m}.superseded_by IS NULL AND {m}.valid_from <= now()
        AND ({m}.valid_to IS NULL OR {m}.valid_to > now())
        AND ({m}.expires_at IS NULL OR {m}.expires_at > now()))"""
