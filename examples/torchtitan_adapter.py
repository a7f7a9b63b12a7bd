"""A model of torchtitan starts from the hub's files and ends as such, by reshard's adapter.

    python examples/torchtitan_adapter.py DIRECTORY

In a training run the adapter goes where torchtitan's own does, a ModelSpec's `state_dict_adapter`,
and the manager below is the trainer's, with `--checkpoint.initial_load_in_hf` and
`--checkpoint.last_save_in_hf`.
"""

import shutil
import sys
from pathlib import Path

import torch
from reshard.torchtitan import StateDictAdapter
from torchtitan.components.checkpoint import CheckpointManager
from torchtitan.models.common import ComplexRoPE, Embedding, Linear
from torchtitan.models.common.nn_modules import RMSNorm
from torchtitan.models.llama3 import Llama3Model, _build_llama3_layers
from transformers import LlamaConfig, LlamaForCausalLM

root = Path(sys.argv[1])

# A tiny model, as the hub has it ...
hub_model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
).eval()
hub_model.save_pretrained(root / "hub")

# ... and the same of torchtitan's own classes.
config = Llama3Model.Config(
    dim=32,
    vocab_size=96,
    tok_embeddings=Embedding.Config(num_embeddings=96, embedding_dim=32),
    norm=RMSNorm.Config(normalized_shape=32),
    lm_head=Linear.Config(in_features=32, out_features=96),
    layers=_build_llama3_layers(
        n_layers=2,
        dim=32,
        n_heads=4,
        n_kv_heads=2,
        hidden_dim=56,
        rope=ComplexRoPE.Config(dim=8, max_seq_len=64),
        attn_backend="flex",
    ),
)
model = config.build()

manager = CheckpointManager(
    CheckpointManager.Config(
        enable=True,
        initial_load_path=str((root / "hub").resolve()),
        initial_load_in_hf=True,
        last_save_in_hf=True,
    ),
    dataloader=None,
    model_parts=[model],
    optimizers=None,
    lr_schedulers=None,
    states={},
    sd_adapter=StateDictAdapter(config, str(root / "hub")),
    base_folder=str(root),
)
manager.load()
manager.save(curr_step=1, last_step=True)
manager.close()

# transformers reads what came out, and it is the model that went in.
step = root / "checkpoint" / "step-1"
shutil.copy(root / "hub" / "config.json", step)
again = LlamaForCausalLM.from_pretrained(step).eval()
tokens = torch.arange(16).reshape(1, 16)
with torch.no_grad():
    same = torch.equal(again(tokens).logits, hub_model(tokens).logits)
print(f"{step}: {'the same logits' if same else 'ANOTHER MODEL'}")
sys.exit(not same)
