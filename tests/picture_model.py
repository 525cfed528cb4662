"""Makes a small model that reads pictures out of the default model, which does not.

The language model is the default one, in the shape SmolVLM has (Idefics 3); the eye in front of it is tiny
and has random weights, so a picture changes answers and is not understood.  Four special tokens the default
model has no use for take the places of those that stand for a picture.

    python -m tests.picture_model FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from harness.models.cache import cache_directory
from harness.models.default import converted_model

SIDE, PATCH, MERGED = 64, 8, 2
"""Pixels of a picture's side, of a patch's, and patches of a side that become one token."""

_PLACES = {
    "<repo_name>": "<image>",
    "<reponame>": "<fake_token_around_image>",
    "<file_sep>": "<global-img>",
    "<filename>": "<end_of_utterance>",
}
_IMAGE_ID = 3
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_picture_model(folder: Path) -> None:
    """Write the model into ``folder``, which must not exist."""
    default = converted_model(cache_directory()).folder
    folder.mkdir(parents=True)
    _write_weights(default, folder)
    shutil.copy(default / "generation_config.json", folder)
    (folder / "tokenizer.json").write_text(_with_places((default / "tokenizer.json").read_text()))
    tokenizer = json.loads(_with_places((default / "tokenizer_config.json").read_text()))
    tokenizer |= {"chat_template": _CHAT_TEMPLATE, "processor_class": "Idefics3Processor"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    processor = {"processor_class": "Idefics3Processor", "image_seq_len": (SIDE // PATCH // MERGED) ** 2}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    (folder / "preprocessor_config.json").write_text(json.dumps(_preprocessing()))


def _write_weights(default: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import Idefics3Config, Idefics3VisionConfig, LlamaConfig
    from transformers.models.idefics3.modeling_idefics3 import Idefics3ForConditionalGeneration

    vision = Idefics3VisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    configuration = Idefics3Config(
        text_config=LlamaConfig(**json.loads((default / "config.json").read_text())),
        vision_config=vision.to_dict(),
        image_token_id=_IMAGE_ID,
        scale_factor=MERGED,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    configuration.bos_token_id, configuration.eos_token_id = 1, 2
    torch.manual_seed(0)
    model: torch.nn.Module = Idefics3ForConditionalGeneration(configuration)  # type: ignore[no-untyped-call]  # has no types
    model.to(torch.bfloat16)
    language = load_file(default / "model.safetensors")
    names = {name: name.replace("model.", "model.text_model.", 1) for name in language}
    loaded = model.load_state_dict({names[name]: tensor for name, tensor in language.items()}, strict=False)
    assert not loaded.unexpected_keys
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".connector." in name:
                parameter.normal_(0, 0.05)  # as large as what words are embedded as
    model.save_pretrained(folder)  # type: ignore[operator]  # a method


def _with_places(text: str) -> str:
    for unused, place in _PLACES.items():
        text = text.replace(json.dumps(unused), json.dumps(place))
    return text


def _preprocessing() -> dict[str, object]:
    return {
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "Idefics3Processor",
        "size": {"longest_edge": SIDE},
        "max_image_size": {"longest_edge": SIDE},
        "do_resize": True,
        "do_image_splitting": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_pad": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
        "resample": 3,
    }


if __name__ == "__main__":
    write_picture_model(Path(sys.argv[1]))
