import json

import pytest

from l0keras.targets.latency import cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_times_are_kept_in_the_users_folder(folder):
    assert cache.read_cache() == {}
    cache.add_to_cache({"a": 1.5})
    cache.add_to_cache({"b": 2, "a": 1.25})
    assert cache.read_cache() == {"a": 1.25, "b": 2}
    path = folder / "l0keras" / "latency.json"
    assert cache.cache_path() == path
    assert json.loads(path.read_text()) == {"a": 1.25, "b": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["latency.json"]


def test_without_the_variable_it_is_below_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/somewhere")
    path = cache.cache_path()
    assert path.parts[-4:] == ("somewhere", ".cache", "l0keras", "latency.json")


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"a": "1"}', '{"a": -1}', '{"a": NaN}']
)
def test_a_damaged_file_is_made_anew(folder, content):
    path = cache.cache_path()
    path.parent.mkdir()
    path.write_text(content)
    with pytest.warns(UserWarning, match="cannot be read .* made anew"):
        assert cache.read_cache() == {}
    cache.add_to_cache({"b": 2})
    assert cache.read_cache() == {"b": 2}


def test_a_folder_that_cannot_be_written_is_no_error(folder):
    (folder / "l0keras").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written"):
        cache.add_to_cache({"b": 2})


def test_keys_differ_by_machine_version_and_quantization(monkeypatch):
    monkeypatch.setattr(
        cache.importlib.metadata, "version", lambda name: f"{name} 2"
    )
    monkeypatch.setattr(cache, "processor", lambda: "one")
    keys = [cache.cache_key("conv", None), cache.cache_key("dense", None)]
    keys.append(cache.cache_key("conv", "int8"))
    monkeypatch.setattr(cache, "processor", lambda: "other")
    keys.append(cache.cache_key("conv", None))
    monkeypatch.setattr(cache.importlib.metadata, "version", lambda name: "3")
    keys.append(cache.cache_key("conv", None))
    assert len(set(keys)) == 5
    assert cache.cache_key("conv", None) == keys[-1]


def test_the_processor_has_a_name():
    assert cache.processor()
