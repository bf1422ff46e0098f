"""Hits of a search of memories, their order, and unreadable rows, which change no answer."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Denied, Invalid, NotFound, Unavailable
from molecule_grpc.memory import similar
from molecule_grpc.memory.search_values import Found
from molecule_grpc.memory.values import Change, Draft
from tests.integration.memories import Tree, plant
from tests.integration.searching import SearchBench, search_bench
from tests.waiting import PATIENCE


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[SearchBench]:
    async with search_bench(pool, database_url) as opened:
        yield opened


@pytest.fixture
async def tree(pool: Pool) -> Tree:
    return await plant(pool)


def answer(found: Found) -> object:
    """All that a search says, but the tokens, which are signed over time."""
    return (
        [(hit.row.content, hit.score, hit.explanation, hit.similar_ids) for hit in found.hits],
        found.mode_used,
        found.embed_pending,
        found.confidence,
        bool(found.next_page_token),
        found.degraded,
    )


async def test_a_paraphrase_without_a_shared_word_is_found_by_its_meaning(
    bench: SearchBench, tree: Tree
) -> None:
    wanted, _ = await bench.remember(tree.a, "Bounce postgres at night.", "The kitten sleeps.")
    found = await bench.search(tree.a, "reboot database")
    assert found.mode_used == "hybrid"
    assert found.hits[0].row.id == wanted
    assert found.hits[0].score is not None
    assert found.hits[0].score > 0.9
    assert found.confidence == "high"
    assert found.embed_pending == 0
    assert found.degraded == []


async def test_a_model_that_nobody_measured_is_never_sure(pool: Pool, database_url: str) -> None:
    tree = await plant(pool)
    async with search_bench(pool, database_url) as bench:
        assert bench.model.model is not None
        bench.model.model = bench.model.model._replace(sure=None)
        await bench.remember(tree.a, "restart the database", "feed the cat")
        assert (await bench.search(tree.a, "reboot postgres")).confidence == "low"
        assert (await bench.search(tree.a, "restart the database")).confidence == "medium"


async def test_any_word_of_a_question_counts_and_rare_words_count_more(
    bench: SearchBench, tree: Tree
) -> None:
    common = [f"the server keeps record number {number}" for number in range(20)]
    await bench.remember(tree.a, *common)
    (wanted,) = await bench.remember(tree.a, "the quorum is three")
    found = await bench.search(tree.a, "how large is the quorum of the server", mode="lexical")
    assert found.mode_used == "lexical"
    assert found.hits[0].row.id == wanted
    assert len(found.hits) > 1


async def test_the_share_of_words_is_bm25(bench: SearchBench, tree: Tree) -> None:
    texts = ["alpha beta beta", "alpha gamma", "delta epsilon zeta eta"]
    await bench.remember(tree.a, *texts)
    found = await bench.search(tree.a, "beta alpha", mode="lexical", explain=True)
    length = (3 + 2 + 4) / 3

    def idf(occurs: int) -> float:
        return math.log(1 + (3 - occurs + 0.5) / (occurs + 0.5))

    def worth(occurs: int, times: int, words: int) -> float:
        return idf(occurs) * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * words / length))

    most = 2.2 * (idf(1) + idf(2))
    expected = [(worth(1, 2, 3) + worth(2, 1, 3)) / most, worth(2, 1, 2) / most]
    assert [hit.score for hit in found.hits] == pytest.approx(expected, abs=2e-6)
    explanation = found.hits[0].explanation
    assert explanation is not None
    assert explanation.matched_words == ("beta", "alpha")
    assert explanation.semantic is None
    assert explanation.namespace_rule == "own"


async def test_an_identifier_is_found_letter_by_letter_before_all_that_means_like_it(
    bench: SearchBench, tree: Tree
) -> None:
    await bench.remember(tree.a, *[f"deploy python snake release {number}" for number in range(5)])
    (wanted,) = await bench.remember(tree.a, "see X_FRAME_python_2 in the settings")
    for query in ("X_FRAME_python_2", "`X_FRAME_python_2`", "FRAME_python"):
        found = await bench.search(tree.a, query, explain=True)
        assert found.hits[0].row.id == wanted, query
        assert found.hits[0].explanation is not None
        assert found.hits[0].explanation.exact
        assert found.confidence == "high"


async def test_nothing_of_others_changes_a_byte_of_an_answer(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    await bench.remember(
        tree.a, "restart the database weekly", "the cat database", "ship on monday"
    )
    queries = (
        {"text": "restart database"},
        {"text": "restart database", "mode": "lexical"},
        {"text": "cat", "mode": "semantic"},
        {"text": "dat_base"},
        {"text": "to be or not to be"},
        {"text": ""},
        {"text": "restart", "as_of": datetime.now(UTC)},
    )

    async def answers() -> list[object]:
        return [answer(await bench.search(tree.a, explain=False, **query)) for query in queries]

    before = await answers()
    foreign = await plant(pool)
    for other in (foreign.root, foreign.a, tree.b, tree.peer, tree.root):
        await bench.remember(other, "restart restart database cat dat_base", "restart", "database")
        await bench.commit(other, "restart database to be read")
    assert await answers() == before


async def test_quarantined_and_superseded_texts_change_no_score(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    team = f"team:{tree.lead}"
    await bench.remember(tree.a, "restart the database", "feed the cat", namespace=team)
    before = answer(await bench.search(tree.a, "restart database", namespaces=(team,)))
    await bench.remember(tree.b, "restart the database, I say", namespace=team)
    assert answer(await bench.search(tree.a, "restart database", namespaces=(team,))) != before
    await pool.execute(
        "INSERT INTO memory_quarantine (organization_id, author_id, created_by)"
        " VALUES ($1, $2, 'x')",
        tree.organization,
        tree.b,
    )
    assert answer(await bench.search(tree.a, "restart database", namespaces=(team,))) == before


async def test_what_a_hidden_author_wrote_is_hidden_as_of_then_too(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    team = f"team:{tree.lead}"
    (memory,) = await bench.remember(tree.b, "the zebra is poisoned", namespace=team)
    then = datetime.now(UTC)
    await bench.bench.changes.update(tree.a, memory, Change(content="the walrus is fine"))
    assert await bench.ids(tree.a, "zebra", mode="lexical", as_of=then) == [memory]
    await pool.execute(
        "INSERT INTO memory_quarantine (organization_id, author_id, created_by)"
        " VALUES ($1, $2, 'x')",
        tree.organization,
        tree.b,
    )
    assert await bench.ids(tree.a, "walrus", mode="lexical") == [memory]
    for mode in ("hybrid", "lexical", "semantic", "recent"):
        assert await bench.ids(tree.a, "zebra", mode=mode, as_of=then) == []


async def test_pages_go_through_all_hits_once_while_others_write(
    bench: SearchBench, tree: Tree
) -> None:
    texts = [f"restart database {number} " + "word " * (number % 7) for number in range(45)]
    written = set(await bench.remember(tree.a, *texts))
    for mode in ("hybrid", "lexical", "semantic", "recent"):
        seen: list[UUID] = []
        token = ""
        for page in range(20):
            found = await bench.search(
                tree.a, "restart database", mode=mode, limit=7, page_token=token
            )
            seen += [hit.row.id for hit in found.hits]
            for hit in found.hits:
                seen += hit.similar_ids
            token = found.next_page_token
            if not token:
                break
            await bench.remember(tree.a, f"database {mode} {page} written meanwhile", "restart it")
        ours = [id_ for id_ in seen if id_ in written]
        assert len(ours) == len(set(ours)) == len(written), mode


async def test_a_page_token_is_of_one_query_and_one_reader(bench: SearchBench, tree: Tree) -> None:
    team = f"team:{tree.lead}"
    await bench.remember(tree.a, "restart one", "restart two", "restart three", namespace=team)
    found = await bench.search(tree.a, "restart", limit=1)
    assert found.next_page_token
    assert len(found.next_page_token) <= 1024
    with pytest.raises(Invalid):
        await bench.search(tree.a, "reboot", limit=1, page_token=found.next_page_token)
    with pytest.raises(Invalid):
        await bench.search(tree.b, "restart", limit=1, page_token=found.next_page_token)
    with pytest.raises(Invalid):
        await bench.search(tree.a, "restart", page_token="x" + found.next_page_token[1:])


async def test_the_longest_query_has_a_token_that_fits(bench: SearchBench, tree: Tree) -> None:
    words = " ".join(f"word{number}x" for number in range(1000))[:8192]
    await bench.remember(tree.a, words, words + " again", "word1x")
    found = await bench.search(tree.a, words, limit=1, mode="lexical")
    assert found.next_page_token
    assert len(found.next_page_token) <= 1024
    assert await bench.ids(tree.a, words, limit=5, mode="lexical", page_token=found.next_page_token)


async def test_without_its_embedder_a_search_goes_by_words_and_says_so(
    bench: SearchBench, tree: Tree
) -> None:
    (wanted, _) = await bench.remember(tree.a, "restart the database", "feed the cat")
    bench.model.down = True
    found = await bench.search(tree.a, "restart")
    assert (found.mode_used, [hit.row.id for hit in found.hits]) == ("lexical", [wanted])
    assert found.degraded != []
    bench.model.down = False
    first = await bench.search(tree.a, "restart", limit=1)
    bench.model.down = True
    with pytest.raises(Unavailable):
        await bench.search(tree.a, "restart", limit=1, page_token=first.next_page_token)


async def test_a_text_that_is_not_read_yet_is_found_by_its_words(
    bench: SearchBench, tree: Tree
) -> None:
    await bench.remember(tree.a, "ship on monday", "feed the cat")
    pending = (await bench.commit(tree.a, "the quorum is three")).id
    found = await bench.search(tree.a, "quorum", explain=True)
    assert found.hits[0].row.id == pending
    assert found.embed_pending == 1
    assert found.hits[0].explanation is not None
    assert found.hits[0].explanation.semantic is None


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("to be or not to be, that is the question", "to be or not to be"),
        ("50% off_today", "50%"),
        ("数据库每天晚上重新启动", "重新启动"),
        ("ข้อมูลสำคัญ", "สำคัญ"),
        ("Größe der Straße", "straße"),
        ("a\\b", "\\"),
    ],
)
async def test_every_script_and_sign_is_found_without_an_embedder(
    bench: SearchBench, tree: Tree, text: str, query: str
) -> None:
    (wanted,) = await bench.remember(tree.a, text)
    await bench.remember(tree.a, "something else entirely")
    bench.model.down = True
    assert (await bench.ids(tree.a, query))[0] == wanted


async def test_signs_of_patterns_mean_themselves(bench: SearchBench, tree: Tree) -> None:
    (wanted,) = await bench.remember(tree.a, "100% sure")
    await bench.remember(tree.a, "100 percent sure", "nothing")
    found = await bench.search(tree.a, "%", mode="lexical")
    assert (found.mode_used, [hit.row.id for hit in found.hits]) == ("substring", [wanted])


async def test_words_that_no_text_has_find_nothing_and_stop_words_find_the_newest(
    bench: SearchBench, tree: Tree
) -> None:
    await bench.remember(tree.a, "alpha", "beta")
    nothing = await bench.search(tree.a, "zeppelin", mode="lexical")
    assert (nothing.hits, nothing.confidence) == ([], "none")
    newest = await bench.search(tree.a, "the", mode="lexical")
    assert (newest.mode_used, len(newest.hits)) == ("recent", 2)


async def test_without_a_query_pinned_rows_come_first_and_then_the_newest(
    bench: SearchBench, tree: Tree
) -> None:
    (pinned,) = await bench.remember(tree.a, "pinned", pinned=True)
    first, second = await bench.remember(tree.a, "first", "second")
    found = await bench.search(tree.a)
    assert found.mode_used == "recent"
    assert [hit.row.id for hit in found.hits] == [pinned, second, first]
    assert [hit.score for hit in found.hits] == [None] * 3


async def test_filters_narrow_before_the_limit(bench: SearchBench, tree: Tree) -> None:
    await bench.remember(tree.a, *[f"restart database {number}" for number in range(30)])
    (wanted,) = await bench.remember(
        tree.a,
        "an old cat restart",
        kind="checkpoint",
        tags=("night", "ops"),
        entities=("pg",),
    )
    for filters in (
        {"kinds": ("checkpoint",)},
        {"tags": ("ops",)},
        {"tags": ("ops", "night")},
        {"entities": ("pg",)},
    ):
        for mode in ("hybrid", "lexical", "semantic", "recent"):
            found = await bench.ids(tree.a, "restart database", mode=mode, limit=1, **filters)
            assert found == [wanted], (filters, mode)
    assert await bench.ids(tree.a, "restart", tags=("ops", "day")) == []
    assert await bench.ids(tree.a, "restart", author_id=tree.b) == []
    later = datetime.now(UTC) + timedelta(days=1)
    assert await bench.ids(tree.a, "restart", created_after=later) == []
    assert wanted in await bench.ids(tree.a, "restart", created_before=later, limit=100)


async def test_what_came_from_a_delegation_or_a_file_is_found(
    bench: SearchBench, tree: Tree
) -> None:
    file = uuid4()
    (from_task,) = await bench.remember(tree.a, "restart by night", delegation_id="task-1")
    (from_file,) = await bench.remember(tree.a, "restart by day", file_id=file)
    for mode in ("hybrid", "lexical", "recent"):
        found = await bench.ids(tree.a, "restart", mode=mode, delegation_id="task-1")
        assert found == [from_task], mode
        assert await bench.ids(tree.a, "restart", mode=mode, file_id=file) == [from_file], mode
        assert await bench.ids(tree.a, "restart", mode=mode, file_id=uuid4()) == [], mode
    why = await bench.explain(tree.a, from_task, "restart", delegation_id="task-2", file_id=file)
    assert why.excluded_by == ["delegation", "file"]


async def test_words_are_found_in_the_language_of_their_namespace(
    bench: SearchBench, tree: Tree
) -> None:
    changes, own = bench.bench.changes, f"workspace:{tree.a}"
    (made,) = await bench.remember(tree.a, "Die Datenbanken wurden neu gestartet")
    await changes.update(tree.a, made, Change(content="Die Datenbanken starten neu"))
    assert await bench.ids(tree.a, "Datenbank", mode="lexical", min_score=0.01) == []
    assert await changes.set_language(tree.a, own, "german") == 2
    assert await bench.ids(tree.a, "Datenbank", mode="lexical", min_score=0.01) == [made]
    (later,) = await bench.remember(tree.a, "Eine weitere Datenbank")
    assert await bench.ids(tree.a, "Datenbanken", mode="lexical", limit=1) == [later]
    assert await changes.set_language(tree.a, own, "german") == 0
    access = await bench.bench.namespaces.access(tree.a)
    spoken = (await bench.bench.namespaces.with_languages(access)).of(own)
    assert spoken is not None
    assert spoken.language == "german"
    with pytest.raises(Invalid, match="german"):
        await changes.set_language(tree.a, own, "klingon")
    with pytest.raises(Denied):
        await changes.set_language(tree.a, f"org:{tree.root}", "german")
    with pytest.raises(NotFound, match="namespace not found"):
        await changes.set_language(tree.a, f"workspace:{tree.b}", "german")


async def test_least_score_and_age(bench: SearchBench, tree: Tree, pool: Pool) -> None:
    old, new = await bench.remember(tree.a, "restart database now", "restart database soon")
    await pool.execute(
        "UPDATE memories SET created_at = now() - interval '10 days' WHERE id = $1", old
    )
    plain = {hit.row.id: hit.score or 0 for hit in (await bench.search(tree.a, "restart")).hits}
    found = await bench.search(tree.a, "restart", half_life_days=10, explain=True)
    assert [hit.row.id for hit in found.hits] == [new, old]
    assert found.hits[1].score == pytest.approx(plain[old] / 2, abs=1e-4)
    assert found.hits[1].explanation is not None
    assert found.hits[1].explanation.recency_factor == pytest.approx(0.5, abs=1e-4)
    assert await bench.ids(tree.a, "restart", min_score=10.0) == []


async def test_nearly_the_same_text_is_shown_once(bench: SearchBench, tree: Tree) -> None:
    text = "The deployment of the billing service waits for the approval of two engineers. " * 3
    copies = await bench.remember(tree.a, text, text.lower(), text + " ")
    (other,) = await bench.remember(tree.a, text.replace("two", "nine thousand and twelve"))
    found = await bench.search(tree.a, "deployment of billing", mode="lexical")
    shown = [hit.row.id for hit in found.hits]
    assert len(shown) == 2
    assert other in shown
    grouped = next(hit for hit in found.hits if hit.row.id != other)
    assert {grouped.row.id, *grouped.similar_ids} == set(copies)


async def test_copies_that_fill_a_page_hide_nothing_behind_them(
    bench: SearchBench, tree: Tree
) -> None:
    text = "The deployment of the billing service waits for the approval of two engineers."
    await bench.remember(tree.a, *[text + " " * number for number in range(45)])
    others = await bench.remember(tree.a, "billing in short", "the service, once more")
    for limit in (1, 20):
        seen: list[UUID] = []
        token = ""
        for _ in range(100):
            found = await bench.search(
                tree.a, "billing service", mode="lexical", limit=limit, page_token=token
            )
            seen += [id_ for hit in found.hits for id_ in (hit.row.id, *hit.similar_ids)]
            if not (token := found.next_page_token):
                break
        assert len(seen) == len(set(seen)) == 47
        assert set(others) <= set(seen)


async def test_long_hits_that_resemble_one_another_do_not_hold_up_the_loop(
    bench: SearchBench, tree: Tree
) -> None:
    letters = random.Random(1)
    texts = ["restart " + "".join(letters.choices("abcdefghij ", k=4000)) for _ in range(110)]
    await bench.remember(tree.a, *texts)
    late = 0.0

    async def watch() -> None:
        nonlocal late
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            late = max(late, loop.time() - due)

    watching = asyncio.create_task(watch())
    found = await bench.search(tree.a, "restart", mode="lexical", limit=100)
    watching.cancel()
    assert len(found.hits) == 100
    assert late < 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {"min_score": 1e300},
        {"min_score": float("nan")},
        {"min_score": float("-inf")},
        {"half_life_days": 5e-324},
        {"half_life_days": float("inf")},
        {"tags": ("\0",)},
        {"entities": ("a\0",)},
        {"text": "re\0start"},
    ],
)
async def test_no_number_or_byte_of_a_query_is_too_much(
    bench: SearchBench, tree: Tree, fields: dict[str, Any]
) -> None:
    (memory,) = await bench.remember(tree.a, "restart")
    query = {"text": "restart", **fields}
    await bench.search(tree.a, **query)
    await bench.explain(tree.a, memory, **query)


async def test_what_was_superseded_is_gone_now_and_there_as_of_then(
    bench: SearchBench, tree: Tree
) -> None:
    (old,) = await bench.remember(tree.a, "the database restart is at two")
    then = datetime.now(UTC)
    new = (
        await bench.bench.commits.supersede(tree.a, old, Draft(content="restart database at four"))
    ).id
    await bench.backlog.step()
    for mode in ("hybrid", "semantic", "lexical", "recent"):
        assert await bench.ids(tree.a, "restart database", mode=mode) == [new]
        assert await bench.ids(tree.a, "restart database", mode=mode, as_of=then) == [old]
    assert await bench.ids(tree.a, "restart", as_of=then - timedelta(days=1)) == []


async def test_an_earlier_text_is_found_as_of_then(bench: SearchBench, tree: Tree) -> None:
    (memory,) = await bench.remember(tree.a, "the zebra is old")
    then = datetime.now(UTC)
    await bench.bench.changes.update(tree.a, memory, Change(content="the walrus is new"))
    await bench.backlog.step()
    assert await bench.ids(tree.a, "zebra", mode="lexical") == []
    found = await bench.search(tree.a, "zebra", mode="lexical", as_of=then)
    assert [hit.row.content for hit in found.hits] == ["the zebra is old"]
    assert await bench.ids(tree.a, "walrus", mode="lexical", as_of=then) == []


async def test_validity_and_expiry(bench: SearchBench, tree: Tree, pool: Pool) -> None:
    now = datetime.now(UTC)
    ended, coming, expired = await bench.remember(tree.a, "cat one", "cat two", "cat three")
    await pool.execute(
        "UPDATE memories SET valid_from = $2, valid_to = $3 WHERE id = $1",
        ended,
        now - timedelta(days=2),
        now - timedelta(days=1),
    )
    await pool.execute(
        "UPDATE memories SET valid_from = $2 WHERE id = $1", coming, now + timedelta(days=1)
    )
    await pool.execute(
        "UPDATE memories SET expires_at = $2 WHERE id = $1", expired, now - timedelta(seconds=9)
    )
    for mode in ("hybrid", "semantic", "lexical", "recent"):
        assert await bench.ids(tree.a, "cat", mode=mode) == []


async def test_who_reads_what(bench: SearchBench, tree: Tree, pool: Pool) -> None:
    foreign = await plant(pool)
    spaces = {
        "own": f"workspace:{tree.a}",
        "team": f"team:{tree.lead}",
        "org": f"org:{tree.root}",
    }
    await bench.remember(tree.a, "restart own")
    await bench.remember(tree.b, "restart team", namespace=spaces["team"])
    await bench.remember(tree.root, "restart org", namespace=spaces["org"])
    expected = {
        tree.a: {"restart own", "restart team", "restart org"},
        tree.b: {"restart team", "restart org"},
        tree.lead: {"restart team", "restart org"},
        tree.peer: {"restart org"},
        tree.root: {"restart org"},
        foreign.root: set(),
        foreign.a: set(),
    }
    for mode in ("hybrid", "semantic", "lexical", "recent"):
        for reader, texts in expected.items():
            found = await bench.search(reader, "restart", mode=mode)
            assert {hit.row.content for hit in found.hits} == texts
            asked = tuple(spaces.values())
            found = await bench.search(reader, "restart", mode=mode, namespaces=asked)
            assert {hit.row.content for hit in found.hits} == texts
            assert set(found.searched_namespaces) <= set(asked)
    nothing = await bench.search(foreign.a, "restart", namespaces=(spaces["team"],))
    assert (nothing.hits, nothing.searched_namespaces) == ([], [])
    # A move counts at once.
    await bench.bench.move(tree.a, tree.root)
    found = await bench.search(tree.a, "restart")
    assert {hit.row.content for hit in found.hits} == {"restart own", "restart org"}


async def test_why_a_memory_is_or_is_not_among_the_hits(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    first, second = await bench.remember(tree.a, "restart the database", "restart", tags=("x",))
    found = await bench.search(tree.a, "restart database")
    order = [hit.row.id for hit in found.hits]
    for memory in (first, second):
        why = await bench.explain(tree.a, memory, "restart database")
        assert (why.found, why.rank, why.excluded_by) == (True, order.index(memory) + 1, [])
        assert why.score == found.hits[why.rank - 1].score
    why = await bench.explain(tree.a, first, "restart", kinds=("summary",), tags=("y",))
    assert (why.found, why.excluded_by) == (False, ["kind", "tag"])
    assert (await bench.explain(tree.a, first, "cat", min_score=3.0)).excluded_by == ["min_score"]
    assert (await bench.explain(tree.a, first, "cat", mode="lexical")).excluded_by == ["words"]
    elsewhere = (f"org:{tree.root}",)
    why = await bench.explain(tree.a, first, "restart", namespaces=elsewhere)
    assert why.excluded_by == ["namespace"]
    # Down the ladder as the search goes: letter by letter, then the newest.
    (letters,) = await bench.remember(tree.a, "substratum")
    for text, mode in (("ubstrat", "lexical"), ("of", "lexical"), ("", "recent")):
        listed = await bench.ids(tree.a, text, mode=mode)
        why = await bench.explain(tree.a, letters, text, mode=mode)
        assert (why.found, why.rank) == (True, listed.index(letters) + 1)
    assert (await bench.explain(tree.a, first, "ubstrat", mode="lexical")).excluded_by == ["words"]
    await bench.bench.commits.supersede(tree.a, first, Draft(content="another"))
    assert (await bench.explain(tree.a, first, "restart")).excluded_by == ["superseded"]
    then = datetime.now(UTC) - timedelta(days=1)
    assert "time" in (await bench.explain(tree.a, second, "restart", as_of=then)).excluded_by
    foreign = await plant(pool)
    for memory in (second, uuid4()):
        with pytest.raises(NotFound, match="there is no such memory"):
            await bench.explain(foreign.a, memory, "restart")


async def test_a_page_ends_before_it_is_too_large(bench: SearchBench, tree: Tree) -> None:
    texts = [f"restart {number} " + f"w{number} " * 30_000 for number in range(40)]
    await bench.remember(tree.a, *[text[:99_000] for text in texts])
    for mode in ("lexical", "recent"):
        seen: list[UUID] = []
        token = ""
        while True:
            found = await bench.search(tree.a, "restart", mode=mode, limit=100, page_token=token)
            assert 1 <= len(found.hits) <= 26
            seen += [hit.row.id for hit in found.hits]
            if not (token := found.next_page_token):
                break
        assert len(seen) == len(set(seen)) == 40


async def test_an_index_finds_what_comparing_all_finds(
    pool: Pool, database_url: str, tree: Tree
) -> None:
    async with search_bench(pool, database_url, embedding_exact_rows=10) as bench:
        others = await plant(pool)
        await bench.remember(others.a, *[f"restart database cat {number}" for number in range(60)])
        texts = [f"restart {'database ' * (number % 5)} {number}" for number in range(40)]
        await bench.remember(tree.a, *texts)
        for mode in ("semantic", "hybrid"):
            indexed = await bench.search(tree.a, "restart database", mode=mode, limit=30)
            exact = bench.parts.search
            exact._exact_rows = 20_000
            compared = await bench.search(tree.a, "restart database", mode=mode, limit=30)
            exact._exact_rows = 10
            assert len(indexed.hits) == 30
            scores = [hit.score for hit in indexed.hits]
            assert scores == pytest.approx([hit.score for hit in compared.hits], abs=1e-5)


async def test_shown_memories_are_counted_as_recalled(
    bench: SearchBench, tree: Tree, pool: Pool
) -> None:
    shown, hidden = await bench.remember(tree.a, "restart", "cat")
    await bench.search(tree.a, "restart", mode="lexical")
    await bench.bench.upkeep.note()
    rows = await pool.fetch("SELECT id FROM memories WHERE last_recalled_at IS NOT NULL")
    assert [row["id"] for row in rows] == [shown]
    assert hidden != shown


async def test_hints_name_what_resembles_a_new_text(
    bench: SearchBench, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "_SECONDS", PATIENCE)
    text = "Backups of the billing cluster are taken at two in the night and kept for a week."
    space = f"workspace:{tree.a}"
    (first,) = await bench.remember(tree.a, text)
    await bench.remember(tree.a, "The kitten sleeps on the snake.", "it's a \\ 'quoted' word")
    edited = text.replace("two", "three")
    second = (await bench.commit(tree.a, edited)).id
    found = await bench.parts.similar.find(tree.organization, space, second, edited)
    assert [(each.id, each.cosine) for each in found] == [(first, None)]
    assert found[0].shared_wording > 0.8
    on_its_way = await bench.parts.similar.find_like(tree.a, space, uuid4(), text + " Twice.")
    assert [each.id for each in on_its_way] == [first, second]
    assert await bench.parts.similar.find_like(tree.b, f"workspace:{tree.b}", first, text) == []
    await bench.backlog.step()
    found = await bench.parts.similar.find(tree.organization, space, second, edited)
    assert [each.id for each in found] == [first]
    assert found[0].cosine == pytest.approx(1.0, abs=1e-6)
    other = (await bench.commit(tree.a, "it's another 'quoted' thing")).id
    assert await bench.parts.similar.find(tree.organization, space, other, "x") == []
