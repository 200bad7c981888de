"""Files of claims: what they may hold, and their way through archives."""

import pytest

from dwfbench.base.errors import UsageError
from dwfbench.runs import claims, resultsets
from dwfbench.runs.archive import Archive
from dwfbench.runs.claims import claims_of
from dwfbench.runs.packing import pack, unpack
from dwfbench.runs.resultsets import Source
from tests.runs.test_archive import fill, record

CLAIM = """
[[claim]]
name = "deeper"
sentence = "Deeper is better."
source = "somebody"
first = { method = "dwf", depth = 3 }
second = { method = "dwf", depth = 2 }
quantity = "accuracy"
at = [10, 100]
expected = "above"
smallest = 0.5
"""


def test_a_claim_is_read():
    (claim,) = claims_of(CLAIM, "here")
    assert (claim.name, claim.first, claim.at, claim.smallest) == (
        "deeper",
        {"method": "dwf", "depth": 3},
        [10, 100],
        0.5,
    )
    assert claims_of(CLAIM.replace("\n", "\r\n"), "here") == [claim]
    assert claims_of("", "here") == []


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("at = [10, 100]", "", "takes the ratios `at`"),
        ("at = [10, 100]", "at = [0.5]", "holds no claims"),
        ('"accuracy"', '"seconds"', "takes the ratios `at`"),
        ('"accuracy"\nat = [10, 100]', '"compression"', "takes a tolerance"),
        ('"accuracy"\nat = [10, 100]', '"compression"\ntolerance = 5', "must be above 1"),
        ("smallest = 0.5", "smallest = 0", "holds no claims"),
        ('method = "dwf", depth = 2', "depth = 2", "does not name the methods"),
        ('"above"', '"best"', "holds no claims"),
        ("smallest", "smalest", "holds no claims"),
        ("[[claim]]", "[[claim]", "holds no claims"),
        ("at = [10, 100]", f"at = {'[' * 5000}", "holds no claims"),
    ],
)
def test_what_is_no_claim_is_refused_in_one_sentence(old, new, why):
    assert old in CLAIM
    with pytest.raises(UsageError, match=why) as error:
        claims_of(CLAIM.replace(old, new), "here")
    assert "here" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_twice_is_refused():
    with pytest.raises(UsageError, match="deeper of here is there twice"):
        claims_of(CLAIM + CLAIM, "here")


def test_claims_go_through_an_archive_and_back(tmp_path):
    folder = fill(tmp_path / "results", record(0))
    (folder / claims.FILE).write_text(CLAIM)
    pack([Source(folder)], tmp_path / "set.zip")
    assert Archive(tmp_path / "set.zip").parts()[""].claims == CLAIM
    unpack(Source(tmp_path / "set.zip"), tmp_path / "again")
    assert (tmp_path / "again" / claims.FILE).read_text() == CLAIM
    unpack(Source(tmp_path / "set.zip"), tmp_path / "again")
    for source in (folder, tmp_path / "set.zip", tmp_path / "again"):
        assert resultsets.claims([Source(source)]) == claims_of(CLAIM, "here")
    assert resultsets.claims([Source(fill(tmp_path / "without", record(1)))]) == []


def test_other_claims_are_not_replaced_in_silence(tmp_path):
    one, other = fill(tmp_path / "one", record(0)), fill(tmp_path / "other", record(1))
    (one / claims.FILE).write_text(CLAIM)
    (other / claims.FILE).write_text(CLAIM.replace("0.5", "0.7"))
    with pytest.raises(UsageError, match=r"claims of .*other"):
        pack([Source(one), Source(other)], tmp_path / "both.zip")
    pack([Source(one), Source(other)], tmp_path / "both.zip", keep_both=True)
    assert {label: part.claims for label, part in Archive(tmp_path / "both.zip").parts().items()} == {
        "": CLAIM,
        "other": CLAIM.replace("0.5", "0.7"),
    }
    assert resultsets.claims([Source(tmp_path / "both.zip")]) == claims_of(CLAIM, "here")
    pack([Source(other)], tmp_path / "alone.zip")
    with pytest.raises(UsageError, match=r"claims of .*alone\.zip are not those of the others; choose another folder"):
        unpack(Source(tmp_path / "alone.zip"), one)


def test_an_unreadable_file_is_said(tmp_path):
    folder = fill(tmp_path / "results", record(0))
    (folder / claims.FILE).mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        resultsets.claims([Source(folder)])
