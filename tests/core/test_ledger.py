import json

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Ledger, differences

IDENTITY = {"pack": "ä", "seed": 0, "guard": {"retries": (0.4, 0.1)}}


def test_a_run_killed_at_any_byte_keeps_every_whole_row(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    ledger = Ledger(path, IDENTITY, ("stage", "id"))
    for number in range(3):
        ledger.add({"stage": "speech", "id": str(number), "text": "ä\n"})
    whole = path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for place in range(len(whole) + 1):
        path.write_bytes(whole[:place])
        again = Ledger(path, IDENTITY, ("stage", "id"))
        num_whole = max(sum(end < place for end in ends) - 1, 0)
        assert list(again.rows) == [("speech", str(number)) for number in range(num_whole)]
        for number in range(num_whole, 3):
            again.add({"stage": "speech", "id": str(number), "text": "ä\n"})
        assert path.read_bytes() == whole


def test_rows_of_other_settings_are_refused_and_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    Ledger(path, IDENTITY).add({"key": "a", "value": 1})
    before = path.read_bytes()
    with pytest.raises(VoicegraftError, match=r"seed was 0, now 1\); choose another output folder"):
        Ledger(path, {**IDENTITY, "seed": 1})
    with pytest.raises(VoicegraftError, match="voice was None, now 'ann'"):
        Ledger(path, {**IDENTITY, "voice": "ann"})
    assert path.read_bytes() == before
    assert Ledger(path, IDENTITY).rows["a",]["value"] == 1


@pytest.mark.parametrize("text", ["hello\n", "[1]\n", '{"rows": 1}\n', '{"identity": {}}\n{"other": 1}\n', "\n"])
def test_a_foreign_file_is_refused(tmp_path, text):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(VoicegraftError, match=r"rows.jsonl is no ledger of such rows .* remove it"):
        Ledger(tmp_path / "rows.jsonl", {})


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VoicegraftError, match=r"cannot write to .*file"):
        Ledger(tmp_path / "file" / "rows.jsonl")


def test_a_value_is_made_once_and_is_as_json_holds_it(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"share": (0.5, None)}

    for _ in range(2):
        ledger = Ledger(tmp_path / "values.jsonl", IDENTITY)
        assert ledger.get("a", make) == ledger.get("a", make) == {"share": [0.5, None]}
    assert made == [1]


def test_without_an_identity_there_are_rows_only_and_the_last_of_a_key_counts(tmp_path):
    path = tmp_path / "rows.jsonl"
    Ledger(path).add({"key": "a", "value": 1})
    Ledger(path).add({"key": "a", "value": 2})
    assert [json.loads(line)["value"] for line in path.read_text().splitlines()] == [1, 2]
    assert Ledger(path).rows == {("a",): {"key": "a", "value": 2}}


def test_differences_name_the_setting_and_both_values():
    before, now = {"rate": 1, "limits": {"min": 0, "max": 9}, "gone": 1}, {"rate": 1, "limits": {"min": 2, "max": 9}}
    assert differences(before, now) == ["limits min was 0, now 2"]
    assert differences(before, before) == []
