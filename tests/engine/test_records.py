"""How writes with the same key become one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_salesloft.objects import PEOPLE
from target_salesloft.records import Named, Source, Write, combine, is_superseded, merge
from tests.engine.conftest import source
from tests.mapping.test_mapper import EMAIL, make_mapper, map_record

SCHEMA = {"stream": "people"}


def write(key, *, row=None, is_removal=False, references=None, **body):
    return Write(body, key, sources=(source(row=row),), is_removal=is_removal, references=references or {})


def removal(key, *, row=None):
    return write(key, row=row, is_removal=True)


# Values


def test_writes_with_different_keys_keep_the_order_of_their_first_record():
    merged = merge([write("a", n=1), write("b", n=2), write("a", n=3), write("c", n=4)])
    assert [(each.key, each.body["n"]) for each in merged] == [("a", 3), ("b", 2), ("c", 4)]


def test_writes_without_a_key_are_not_merged():
    assert len(merge([write(None, n=1), write(None, n=1)])) == 2


def test_a_merged_write_keeps_what_was_left_out_of_each():
    first = Write({}, "a", missing=("account.domain: not found",))
    second = Write({}, "a", missing=("owner.email: not found",))
    for one in (combine(first, second), combine(second, first)):
        assert sorted(one.missing) == ["account.domain: not found", "owner.email: not found"]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("spelling", ["ADA@example.com", " ada@example.com", "ada@EXAMPLE.com\t"])
def test_email_addresses_that_differ_in_case_or_whitespace_are_one_key(normalize, spelling):
    mapper = make_mapper(normalize=normalize, columns=["email_address"])
    assert len(merge(mapper.map({"email_address": each}) for each in (EMAIL, spelling))) == 1


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("crm_id", "003A000001abcde", "003A000001abcDE"),  # Salesforce ids of 15 characters are case-sensitive
        ("email_address", "strasse@example.com", "straße@example.com"),
    ],
)
def test_similar_keys_are_not_merged(key, one, other):
    mapper = make_mapper(key=key, columns=[key])
    assert len(merge(mapper.map({key: each}) for each in (one, other))) == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a@b.co", "A@B.co", " a@b.co", "c@d.co"]),
            st.dictionaries(st.sampled_from(["title", "city", "state"]), st.none() | st.sampled_from("xyz")),
            st.dictionaries(st.sampled_from(["Region", "Lead Score"]), st.none() | st.sampled_from("xyz")),
        )
    ),
    st.sampled_from(["ignore", "clear"]),
    st.booleans(),
)
def test_merging_equals_applying_the_records_one_after_another(records, policy, normalize):
    mapper = make_mapper(null_values=policy, normalize=normalize)
    rows = [{"email_address": address, **values, "custom_fields": custom} for address, values, custom in records]
    merged = merge(map_record(mapper, row) for row in rows)
    expected = {}
    for row in rows:
        standard, custom = expected.setdefault(row["email_address"].strip().lower(), ({}, {}))
        for name, value in row.items():
            if name not in {"email_address", "custom_fields"} and (value is not None or policy == "clear"):
                standard[name] = value
        for name, value in row["custom_fields"].items():
            if value is not None or policy == "clear":
                custom[name] = value
    actual = {
        each.body["email_address"].strip().lower(): (
            {name: each.body[name] for name in ("title", "city", "state") if name in each.body},
            each.body.get("custom_fields", {}),
        )
        for each in merged
    }
    assert actual == expected
    assert len(merged) == len(expected)


# References

DOMAIN = PEOPLE.references["account.domain"]


def test_later_reference_replaces_an_earlier_id_and_the_other_way_round():
    by_name = Write({}, "k", references={"account_id": Named(DOMAIN, "acme.com")})
    by_id = Write({"account_id": 7}, "k")
    (merged,) = merge([by_id, by_name])
    assert (merged.body, set(merged.references)) == ({}, {"account_id"})
    (merged,) = merge([by_name, by_id])
    assert (merged.body, merged.references) == ({"account_id": 7}, {})


def test_later_reference_replaces_an_earlier_one_and_its_id():
    resolved = Write({"account_id": 7, "title": "CEO"}, "k", references={"account_id": Named(DOMAIN, "acme.com")})
    (merged,) = merge([resolved, Write({}, "k", references={"account_id": Named(DOMAIN, "other.com")})])
    assert merged.body == {"title": "CEO"}
    assert merged.references["account_id"].value == "other.com"
    (merged,) = merge([merged, Write({"title": "CTO"}, "k")])
    assert (merged.body, set(merged.references)) == ({"title": "CTO"}, {"account_id"})


# Removals


@pytest.mark.parametrize(
    ("earlier", "later", "is_one"),
    [
        (removal("a", row="1"), write("a", row="1", title="CEO"), True),
        (write("a", row="1", title="CEO"), removal("a", row="1"), True),
        (removal("a", row="1"), write("a", row="2", title="CEO"), False),
        (write("a", row="1", title="CEO"), removal("a", row="2"), False),
        (removal("a"), write("a", title="CEO"), True),
        (write("a", title="CEO"), removal("a"), True),
    ],
    ids=["write last", "removal last", "write of another row", "removal of another row", "no rows", "no rows, removal"],
)
def test_a_removal_and_a_write_are_one_only_if_they_are_the_same_row(earlier, later, is_one):
    merged = merge([earlier, later])
    assert len(merged) == (1 if is_one else 2)
    assert (merged[-1].is_removal, merged[-1].body) == (later.is_removal, later.body)
    assert sum(len(each.sources) for each in merged) == 2


def test_a_removal_replaces_only_the_write_of_its_own_row():
    merged = merge([write("a", row="1", title="CEO"), write("a", row="2", city="Rome"), removal("a", row="1")])
    # The values of the row that is removed do not count any more.
    assert [(each.is_removal, each.body) for each in merged] == [(False, {"city": "Rome"}), (True, {})]


def test_removals_of_several_rows_with_one_key_stay_apart_as_one_row_may_come_back():
    merged = merge([removal("a", row="1"), removal("a", row="2"), removal("a", row="1")])
    assert [[each.record["id"] for each in one.sources] for one in merged] == [["1", "1"], ["2"]]


@pytest.mark.parametrize(("stream", "is_one"), [("people", True), ("leads", False)])
def test_without_key_properties_rows_are_distinguished_by_their_stream(stream, is_one):
    assert is_superseded(Write({}, "a", sources=(source(), source(stream=stream))), removal("a")) is is_one


WRITES = st.builds(
    write,
    st.sampled_from(["a", "b"]),
    row=st.sampled_from(["1", "2", None]),
    is_removal=st.booleans(),
    n=st.integers(0, 9),
)


@given(st.lists(WRITES, max_size=8))
def test_the_last_record_of_a_key_wins_and_no_source_is_lost_or_counted_twice(writes):
    merged = merge(writes)
    kinds = [(each.key, each.is_removal, each.sources[-1].row if each.is_removal else None) for each in merged]
    assert len(kinds) == len(set(kinds))
    before, after = ([id(source) for each in some for source in each.sources] for some in (writes, merged))
    assert sorted(before) == sorted(after)
    for key in {each.key for each in writes}:
        last = [each for each in writes if each.key == key][-1]
        assert any(
            each.sources[-1] is last.sources[-1] and each.is_removal == last.is_removal and each.body == last.body
            for each in merged
        )


# Values of a record's way


@pytest.mark.parametrize(
    ("body", "key", "record_id", "tokens"),
    [
        ({"email_address": "A@b.co"}, None, None, {"email_address=a@b.co"}),
        ({"email_address": "a@b.co", "crm_id": "7"}, "crm_id=7", 3, {"email_address=a@b.co", "crm_id=7", "id=3"}),
        ({"title": "CEO"}, "id=3", 3, {"id=3"}),
        ({"title": "CEO"}, None, None, set()),
    ],
)
def test_tokens_are_all_keys_by_which_a_write_may_name_a_record(body, key, record_id, tokens):
    assert Write(body, key, record_id).tokens == tokens


@pytest.mark.parametrize(
    ("stored", "file", "position"),
    [
        ({"id": 1}, None, 3),
        ('{"type": "RECORD", "stream": "people", "record": {"id": 1}}', None, 3),
        ('{"id": 1}', "batch.jsonl", "batch.jsonl:3"),
    ],
)
def test_a_source_is_decoded_when_it_is_needed(stored, file, position):
    one = Source(SCHEMA, stored, 3, file)
    assert (one.record, one.position) == ({"id": 1}, position)
