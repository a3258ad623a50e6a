"""The sizes of a model that is made in no time, by the names that most families share."""

TINY = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 17,
    "initializer_range": 0.3,
}
