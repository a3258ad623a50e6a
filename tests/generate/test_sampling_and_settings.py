"""The choice of a token, the options of a call, and how they become processors and stops."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from mock_model import BagModel, LetterTokenizer, ScriptModel

from plait.errors import ConfigError, GenerationError, NotFoundError, OptionError
from plait.generate import GenerationConfig, generate
from plait.generate.sampling import Multinomial, greedy

PROMPT = torch.tensor([[1, 2, 3]])


def test_greedy_takes_the_first_of_equals() -> None:
    assert greedy(torch.tensor([[0.0, 5.0, 5.0], [1.0, 0.0, 0.0]])).tolist() == [1, 0]


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(20000, 3)
    shares = Multinomial(torch.Generator().manual_seed(1))(logits).bincount(minlength=3) / 20000
    # The standard error of a share is sqrt(0.21 / 20000) < 0.0033; four of them.
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.7]), rtol=0, atol=0.013)


def test_a_row_without_any_token_is_an_error() -> None:
    with pytest.raises(GenerationError, match="No token can be drawn: .*processors forbid every token"):
        Multinomial()(torch.full((1, 3), -float("inf")))


def test_seed_and_generator_make_the_same_draws_and_leave_global_state_alone() -> None:
    options = {"do_sample": True, "max_new_tokens": 12}
    state = torch.get_rng_state()
    first = generate(BagModel(), PROMPT, seed=5, **options)
    second = generate(BagModel(), PROMPT, generator=torch.Generator().manual_seed(5), **options)
    assert first.equal(second)
    assert not first.equal(generate(BagModel(), PROMPT, seed=6, **options))
    assert torch.get_rng_state().equal(state)


def test_several_answers_to_each_prompt() -> None:
    prompts = torch.tensor([[1, 2], [3, 4]])
    out = generate(BagModel(), prompts, do_sample=True, num_return_sequences=3, max_new_tokens=8, seed=0, top_k=0)
    assert out.shape == (6, 10)
    assert out[:, :2].tolist() == [[1, 2]] * 3 + [[3, 4]] * 3
    assert len({tuple(row) for row in out.tolist()}) > 2
    with pytest.raises(GenerationError, match="`num_return_sequences` above 1 needs do_sample=True"):
        generate(BagModel(), PROMPT, num_return_sequences=2, max_new_tokens=1)


def test_top_k_1_is_greedy() -> None:
    sampled = generate(BagModel(), PROMPT, do_sample=True, top_k=1, max_new_tokens=9)
    assert sampled.equal(generate(BagModel(), PROMPT, max_new_tokens=9))


def test_scores_and_logits_are_those_after_and_before_the_processors() -> None:
    out = generate(
        BagModel(),
        PROMPT,
        max_new_tokens=4,
        suppress_tokens=[0, 7],
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    assert len(out.scores) == len(out.logits) == 4
    for step, (score, logit) in enumerate(zip(out.scores, out["logits"], strict=True)):
        assert score.isinf().nonzero().tolist() == [[0, 0], [0, 7]]
        assert score.argmax().item() == out.sequences[0, 3 + step].item()
        kept = score.isfinite()
        assert score[kept].equal(logit[kept])
    with pytest.raises(AttributeError, match="no 'attentions'; it holds"):
        _ = out.attentions


def test_min_and_forced_lengths_reach_the_loop() -> None:
    script = [[9, 9, 9, 1, 1, 1]]
    out = generate(ScriptModel(script), PROMPT, eos_token_id=9, min_new_tokens=2, max_new_tokens=6)
    assert out[0, 3:].tolist() == [0, 0, 9]  # the end is forbidden twice, and 0 is the first of equals
    forced = generate(ScriptModel(script), PROMPT, forced_eos_token_id=4, max_new_tokens=3)
    assert forced[0, 3:].tolist() == [9, 9, 4]
    assert generate(ScriptModel(script), PROMPT, max_length=5).shape == (1, 5)
    begun = generate(ScriptModel(script), PROMPT, begin_suppress_tokens=[9], bad_words_ids=[[0, 9]], max_new_tokens=3)
    assert begun[0, 3:].tolist() == [0, 0, 0]


def test_max_time_ends_after_the_first_token_when_it_is_over() -> None:
    assert generate(BagModel(), PROMPT, max_time=0.0, max_new_tokens=50).shape == (1, 4)


def test_stop_strings_end_a_row_where_they_are_complete() -> None:
    model = ScriptModel([[1, 2, 3, 4, 5], [2, 3, 9, 9, 9]])
    options = {"max_new_tokens": 5, "stop_strings": ["cde", "jj"], "pad_token_id": 0}
    out = generate(model, torch.zeros(2, 1).long(), tokenizer=LetterTokenizer(), **options)
    assert out[:, 1:].tolist() == [[1, 2, 3, 4], [2, 3, 9, 9]]
    with pytest.raises(OptionError, match="`stop_strings` are compared with text: pass tokenizer="):
        generate(BagModel(), PROMPT, **options)


def test_without_a_limit_twenty_tokens_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "plait.generate"):
        assert generate(BagModel(), PROMPT).shape == (1, 23)
    assert "no max_new_tokens was given, so at most 20 tokens are generated" in caplog.text


def test_sampling_options_without_sampling_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "plait.generate"):
        generate(BagModel(), PROMPT, temperature=0.3, top_p=0.9, max_new_tokens=1)
    assert "temperature, top_p: no effect without do_sample=True" in caplog.text


def test_the_models_own_options_are_the_default() -> None:
    model = BagModel()
    model.generation_config = GenerationConfig(max_new_tokens=3)
    assert generate(model, PROMPT).shape == (1, 6)
    assert generate(model, PROMPT, max_new_tokens=4).shape == (1, 7)
    assert generate(model, PROMPT, generation_config=GenerationConfig(max_new_tokens=1)).shape == (1, 4)
    assert model.generation_config.max_new_tokens == 3


def test_what_a_configuration_does_not_say_is_as_in_the_models_own() -> None:
    model = ScriptModel([[1, 2, 3, 9, 5, 6, 7, 8]])
    model.generation_config = GenerationConfig(max_new_tokens=3, eos_token_id=9, pad_token_id=0, num_beams=1)
    given = GenerationConfig(max_length=9)
    # The model's end token ends the row; the limit of the call takes the place of both of the model's.
    assert generate(model, PROMPT, generation_config=given)[0, 3:].tolist() == [1, 2, 3, 9]
    endless = ScriptModel([[1, 2, 3, 9, 5, 6]])  # a model without options of its own has no end token
    assert generate(endless, PROMPT, generation_config=given)[0, 3:].tolist() == [1, 2, 3, 9, 5, 6]
    assert generate(model, PROMPT, max_length=4).shape == (1, 4)
    assert generate(model, PROMPT, max_length=None).shape == (1, 6)
    found = GenerationConfig(temperature=0.5, eos_token_id=None).over(model.generation_config)
    assert found.to_dict() == {"max_new_tokens": 3, "temperature": 0.5, "pad_token_id": 0}
    assert given.over(None) is given
    assert given.to_dict() == {"max_length": 9}, "the given one stays as it is"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_new_token": 3}, OptionError, "no generation option 'max_new_token'. Did you mean 'max_new_tokens'"),
        (
            {"num_beam_groups": 2},
            GenerationError,
            "`num_beam_groups=2` is not supported .* by the model's generation_config.json; say num_beam_groups=1. "
            "Transformers 5 has no such search in generate either.",
        ),
        ({"assistant_model": "x"}, GenerationError, "`assistant_model='x'` is not supported"),
        ({"constraints": list(range(60))}, GenerationError, "`constraints=a list` is not supported"),
        ({"output_attentions": True}, GenerationError, "`output_attentions=True` is not supported"),
        ({"top_p": 1.2}, GenerationError, "`top_p` must be between 0 and 1, but is 1.2"),
        ({"max_new_tokens": 0}, GenerationError, "`max_new_tokens` must be at least 1, but is 0"),
        ({"max_new_tokens": "20"}, GenerationError, "`max_new_tokens` must be at least 1, but is '20'"),
        ({"repetition_penalty": 0}, GenerationError, "`repetition_penalty` must be above 0"),
        ({"temperature": -1}, GenerationError, "`temperature` must be at least 0, but is -1"),
        ({"do_sample": True, "temperature": 0.0, "max_new_tokens": 1}, OptionError, "say do_sample=False"),
        ({"do_sample": True, "seed": 1, "generator": torch.Generator()}, OptionError, "exclude each other"),
        ({"token_type_ids": torch.ones(1, 3)}, GenerationError, "`token_type_ids` other than 0"),
    ],
)
def test_options_that_cannot_be_met_are_named(options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        generate(BagModel(), PROMPT, **options)


def test_off_values_and_options_without_effect_are_accepted() -> None:
    out = generate(
        BagModel(), PROMPT, num_beams=1, typical_p=1.0, early_stopping=True, cache_implementation="static",
        guidance_scale=None, token_type_ids=torch.zeros(1, 3), max_new_tokens=2,
    )  # fmt: skip
    assert out.shape == (1, 5)


def test_generation_config_reads_and_writes_the_usual_file(tmp_path) -> None:
    content = {
        "eos_token_id": [151645, 151643], "pad_token_id": 151643, "do_sample": True, "temperature": 0.6, "top_k": 20,
        "top_p": 0.95, "transformers_version": "4.51.0", "num_beams": 4, "max_length": None, "of_another_library": 1,
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    config = GenerationConfig.from_folder(tmp_path, top_k=30)
    assert config.eos_token_ids() == [151645, 151643]
    assert (config.top_k, config.num_beams, config.max_length) == (30, 4, None)
    config.save_pretrained(tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "generation_config.json").read_text())
    assert written == {name: value for name, value in {**content, "top_k": 30}.items() if value is not None}
    assert GenerationConfig.from_pretrained(tmp_path / "copy") == config
    assert '"temperature": 0.6' in repr(config)
    with pytest.raises(GenerationError, match="`diversity_penalty=0.5` is not supported"):
        config.updated(diversity_penalty=0.5).refuse_unsupported()
    with pytest.raises(NotFoundError, match="generation_config.json does not exist, .* model.generation_config"):
        GenerationConfig.from_folder(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "text"),
    [("{", "is not valid JSON .* Fetch it again"), ("[]", "must hold an object of options, but holds a list")],
)
def test_a_file_that_holds_no_options(content: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(ConfigError, match=f"generation_config.json {text}"):
        GenerationConfig.from_folder(tmp_path)


def test_attributes_are_checked_too() -> None:
    config = GenerationConfig()
    with pytest.raises(OptionError, match="Did you mean 'temperature'"):
        config.temperatur = 1
    with pytest.raises(AttributeError, match="no attribute 'temprature'. Did you mean 'temperature'"):
        _ = config.temprature
    with pytest.raises(OptionError, match="no generation option 'max_lenght'"):
        GenerationConfig(max_lenght=3)


def test_every_option_of_transformers_is_known() -> None:
    from transformers import GenerationConfig as Theirs

    from plait.generate.settings import known_names

    assert set(vars(Theirs())) <= set(known_names()) | {"_commit_hash", "_original_object_hash"}
