"""Other spellings of training arguments, complete for transformers 4 and 5: synonyms, and names without effect here.

A name in neither table is an error, so that a misspelled argument never passes in silence.
"""

from __future__ import annotations

# other spelling -> our field
SYNONYMS: dict[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "no_cuda": "use_cpu",
}

# other spelling -> our field, given the value: None when the value says nothing
CONVERTED: dict[str, str] = {
    "group_by_length": "train_sampling_strategy",
    "warmup_ratio": "warmup_steps",
    "adafactor": "optim",
}

_REASONS: dict[str, str] = {
    "your script may read it; the Trainer never does": "do_train do_eval do_predict resume_from_checkpoint local_rank",
    "mixed precision is torch.autocast's": (
        "fp16_opt_level fp16_backend half_precision_backend fp16_full_eval bf16_full_eval tf32 xpu_backend use_ipex"
    ),
    "the device is chosen by torch": "use_mps_device tpu_num_cores tpu_metrics_debug jit_mode_eval ray_scope",
    "run under torchrun; gradients are summed over its processes": (
        "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout "
        "fsdp fsdp_config fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap sharded_ddp deepspeed mp_parameters "
        "accelerator_config parallelism_config dispatch_batches split_batches"
    ),
    "losses are divided by the count of labels over all micro-batches and processes, always": (
        "average_tokens_across_devices"
    ),
    "call torch.compile or the model's own methods before the Trainer": (
        "torch_compile torch_compile_backend torch_compile_mode torchdynamo gradient_checkpointing_kwargs "
        "activation_checkpointing activation_checkpointing_kwargs use_liger_kernel liger_kernel_config "
        "neftune_noise_alpha use_cache optim_args optim_target_modules torch_empty_cache_steps auto_find_batch_size"
    ),
    "evaluation keeps predictions only when a metric needs them, on the CPU": (
        "prediction_loss_only eval_accumulation_steps eval_do_concat_batches eval_use_gather_object batch_eval_metrics "
        "include_for_metrics include_inputs_for_metrics past_index use_legacy_prediction_loop"
    ),
    "evaluate() can be called at any time": "eval_on_start eval_delay",
    "checkpoints are always complete, in safetensors and JSON, and resume exactly": (
        "save_only_model save_safetensors save_on_each_node overwrite_output_dir ignore_data_skip "
        "restore_callback_states_from_checkpoint enable_jit_checkpoint"
    ),
    "upload a finished folder yourself": (
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision "
        "push_to_hub_model_id push_to_hub_organization push_to_hub_token"
    ),
    "log lines go to the logger 'plait.train'": (
        "log_level log_level_replica log_on_each_node logging_nan_inf_filter include_num_input_tokens_seen "
        "include_tokens_per_second skip_memory_metrics debug project trackio_space_id trackio_bucket_id "
        "trackio_static_space_id"
    ),
    "batches are pinned when an accelerator is used, and are the same for any number of workers": (
        "dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
        "dataloader_multiprocessing_context dataloader_in_order full_determinism"
    ),
    "lengths come from a column `length`, or else from `input_ids`": "length_column_name",
}

# name without effect -> why
IGNORED: dict[str, str] = {name: reason for reason, names in _REASONS.items() for name in names.split()}


def convert(name: str, value: object) -> object:
    """The value of our field for one of `CONVERTED`, or None when the value leaves the field as it is."""
    if not value:
        return None
    if name == "group_by_length":
        return "group_by_length"
    return "adafactor" if name == "adafactor" else value
