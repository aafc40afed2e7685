#!/usr/bin/env python3
"""Makes tests/data/models: small random checkpoints with FP32 logits computed by transformers.

Each folder holds config.json, model.safetensors and golden.json {prompt_ids, positions, logits}; the logits
are those after the tokens at `positions` of one long prompt, past the sliding window and past YaRN's original
length. Needs torch, transformers, safetensors and numpy.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 4096}


def gpt_oss(**changes):
    config = {
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "num_hidden_layers": 4,
        "num_local_experts": 6, "vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 128, "tie_word_embeddings": False,
        "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "num_experts_per_tok": 3,
        "attention_bias": True, "swiglu_limit": 7.0, "eos_token_id": 1, "rope_theta": 150000.0,
        "rope_scaling": dict(YARN),
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]},
    }
    config.update(changes)
    return {k: v for k, v in config.items() if v is not None}


def qwen3(**changes):
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 3, "vocab_size": 161,
        "hidden_size": 72, "intermediate_size": 104, "head_dim": 20, "num_attention_heads": 4,
        "num_key_value_heads": 4, "tie_word_embeddings": False, "hidden_act": "silu",
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "attention_bias": False, "eos_token_id": 1,
        "rope_theta": 10000.0,
    }
    config.update(changes)
    return config


def qwen3_moe(**changes):
    config = qwen3(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", num_hidden_layers=4,
                   moe_intermediate_size=40, num_experts=7, num_experts_per_tok=3, norm_topk_prob=True,
                   decoder_sparse_step=1, mlp_only_layers=[])
    config.update(changes)
    return config


CASES = {
    # name: (config, prompt tokens)
    "gpt-oss-long": (gpt_oss(), 6000),
    "gpt-oss-one-kv-head": (gpt_oss(num_key_value_heads=1, num_experts_per_tok=1, rope_scaling=None, rope_parameters={
        **YARN, "rope_theta": 10000.0, "factor": 4.0, "truncate": True, "original_max_position_embeddings": 256,
        "attention_factor": 1.25}, rope_theta=None, layer_types=["full_attention"] * 2 + ["sliding_attention"] * 2,
        sliding_window=33), 1500),
    "qwen3-untied-all-kv-heads": (qwen3(), 6000),
    "qwen3-tied-one-kv-head": (qwen3(num_key_value_heads=1, tie_word_embeddings=True, attention_bias=True,
                                     rope_scaling={"rope_type": "linear", "factor": 2.5}), 700),
    "qwen3-window": (qwen3(use_sliding_window=True, sliding_window=48, max_window_layers=1), 700),
    "qwen3-yarn-defaults": (qwen3(rope_scaling={"type": "yarn", "factor": 4.0,
                                                "original_max_position_embeddings": 512}), 2500),
    "qwen3-moe-mixed": (qwen3_moe(decoder_sparse_step=2, mlp_only_layers=[3], num_hidden_layers=6), 6000),
    "qwen3-moe-plain-topk": (qwen3_moe(norm_topk_prob=False, num_key_value_heads=1, num_experts_per_tok=5,
                                       tie_word_embeddings=True), 700),
    "qwen3-moe-window": (qwen3_moe(use_sliding_window=True, sliding_window=50), 700),
}


def random_weights(model, rng):
    """BF16 values of useful size for every parameter; norms near one, biases and sinks small."""
    state = {}
    for name, parameter in model.state_dict().items():
        shape = tuple(parameter.shape)
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("norm.weight"):
            values = 1 + 0.2 * values
        elif name.endswith("bias") or name.endswith("sinks"):
            values = 0.5 * values
        elif "embed_tokens" in name:
            pass
        else:
            fan_in = shape[-2] if "experts" in name else shape[-1]
            values = values * (1.7 / np.sqrt(fan_in))
        state[name] = torch.from_numpy(values).to(torch.bfloat16)
    return state


def to_mxfp4(values):
    """Rows (..., K) to E2M1 codes and E8M0 bytes per 32, and what they mean. Nearest code is enough here."""
    groups = values.reshape(*values.shape[:-1], -1, 32)
    largest = np.maximum(np.abs(groups).max(axis=-1, keepdims=True), 1e-30)
    exponent = np.ceil(np.log2(largest / 6.0))
    scaled = groups / np.exp2(exponent)
    codes = np.abs(scaled[..., None] - E2M1).argmin(axis=-1).astype(np.uint8)
    meaning = (E2M1[codes] * np.exp2(exponent)).astype(np.float32).reshape(values.shape)
    blocks = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return blocks, (exponent[..., 0] + 127).astype(np.uint8), meaning


def make(name, config, length, root, seed):
    rng = np.random.default_rng(seed)
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    plain = {k: v for k, v in config.items() if k != "quantization_config"}
    loaded = transformers.AutoConfig.for_model(**json.loads(json.dumps(plain)))
    loaded._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(loaded, dtype=torch.float32).eval()
    state = random_weights(model, rng)
    stored = {}
    for key, value in list(state.items()):
        if key.endswith("experts.gate_up_proj") or key.endswith("experts.down_proj"):
            if config["model_type"] == "gpt_oss":  # held (E, K, N); stored (E, N, K/32, 16)
                blocks, scales, meaning = to_mxfp4(value.float().numpy().transpose(0, 2, 1).copy())
                stored[key + "_blocks"] = torch.from_numpy(blocks)
                stored[key + "_scales"] = torch.from_numpy(scales)
                state[key] = torch.from_numpy(meaning.transpose(0, 2, 1).copy())
            else:  # held (E, N, K); stored one matrix per expert and projection
                prefix = key.rsplit(".", 1)[0]
                for e in range(value.shape[0]):
                    if key.endswith("down_proj"):
                        stored[f"{prefix}.{e}.down_proj.weight"] = value[e].contiguous()
                    else:
                        gate, up = value[e].chunk(2, dim=0)
                        stored[f"{prefix}.{e}.gate_proj.weight"] = gate.contiguous()
                        stored[f"{prefix}.{e}.up_proj.weight"] = up.contiguous()
        elif not (key == "lm_head.weight" and config["tie_word_embeddings"]):
            stored[key] = value
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict({k: v.float() for k, v in state.items()})
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})

    prompt = rng.integers(0, config["vocab_size"], size=length).tolist()
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0].float().numpy()
    wanted = [0, 1, 31, 32, 33, 47, 48, 63, 64, 127, 128, 129, 255, 256, 257, 511, 512, 699, 1499, 2499, 4095, 4096, 4097,
              5000, 5999]
    positions = [p for p in wanted if p < length]
    rows = [[round(float(v), 5) for v in logits[p]] for p in positions]
    golden = {"what": f"FP32 logits by transformers {transformers.__version__}", "prompt_ids": prompt,
              "positions": positions, "logits": rows}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(f"{name}: {length} tokens, logits up to {np.abs(logits).max():.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "models")
    parser.add_argument("--only", help="make only the cases whose name contains this")
    arguments = parser.parse_args()
    for seed, (name, (config, length)) in enumerate(CASES.items()):
        if not arguments.only or arguments.only in name:
            make(name, config, length, arguments.out, seed)


if __name__ == "__main__":
    main()
