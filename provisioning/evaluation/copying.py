"""Gives a few attention heads a start as a copying circuit; training does the rest.

Copying what is in front of it is nearly all this model has to learn, and on two cores most of the time would go by
before the heads that do it find each other by chance. So they begin near where they would end:

- in layer 0, heads 0 to 2 look one, two and three tokens back (by the rotary angles alone) and note what was there;
- in layer 1, head 0 looks for the place whose notes are the last three tokens, and proposes the token that stands there.

One token of context is not enough: in a code, a digit is followed by any other. Every other block begins silent (its
last matrix is nothing), and no weight is held fixed.
"""

from typing import Final

import torch
from transformers import Qwen3ForCausalLM

FAST_PAIRS: Final = 8  # rotary pairs that turn fast enough to tell neighbours apart
BACK: Final = 3  # how many tokens are noted
LEVEL: Final = 4.0  # size of the constant part of every embedding, in units of the rest
LOOK_BACK_SCALE: Final = 2.5  # of queries and keys after their norm
MATCH_SCALE: Final = 1.6
NOTE_SIZE: Final = 1.5  # of what is written, in units of the embedding
PROPOSAL_SIZE: Final = 3.0


@torch.no_grad()
def prepare(model: Qwen3ForCausalLM, seed: int) -> None:
    """Write the circuit's starting values into the model."""
    config = model.config
    width, size, spread = config.hidden_size, config.head_dim, config.initializer_range
    source = torch.Generator().manual_seed(seed)
    slow = _slow(size)
    code = len(slow)  # as many numbers name a token as there are slow angles to match it by
    basis = torch.zeros((width, width))
    basis[1:, 1:] = _orthogonal(width - 1, source)
    name, *notes, proposal = torch.split(basis[1:], [code, *[code] * BACK, width - 1 - (1 + BACK) * code])

    for layer in model.model.layers:  # nothing speaks until it has something to say
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embedding = model.model.embed_tokens.weight
    for note in notes:  # room for the notes
        embedding.sub_(embedding @ note.T @ note)
    embedding[:, 0] = LEVEL * spread

    for index, note in enumerate(notes):
        _look_back(model, index, index + 1)
        rows = slice(index * size, index * size + code)
        attention = model.model.layers[0].self_attn
        attention.v_proj.weight[rows] = name
        attention.o_proj.weight[:, rows] = NOTE_SIZE * spread * note.T

    attention = model.model.layers[1].self_attn
    mixes = [_orthogonal(code, source) for _ in notes]
    here = (name, *notes[:-1])
    attention.q_proj.weight[:size].zero_()
    attention.k_proj.weight[:size].zero_()
    attention.q_proj.weight[slow] = torch.stack([mix @ part for mix, part in zip(mixes, here, strict=True)]).sum(0)
    attention.k_proj.weight[slow] = torch.stack([mix @ part for mix, part in zip(mixes, notes, strict=True)]).sum(0)
    attention.v_proj.weight[: len(proposal)] = proposal[:size]
    attention.o_proj.weight[:, : len(proposal)] = PROPOSAL_SIZE * spread * proposal[:size].T
    attention.q_norm.weight.fill_(MATCH_SCALE)
    attention.k_norm.weight.fill_(MATCH_SCALE)


def _look_back(model: Qwen3ForCausalLM, head: int, distance: int) -> None:
    """Make a head of layer 0 attend ``distance`` tokens back, whatever the tokens are."""
    config = model.config
    size, half = config.head_dim, config.head_dim // 2
    attention = model.model.layers[0].self_attn
    angle = distance * config.rope_parameters["rope_theta"] ** (-torch.arange(FAST_PAIRS) / half)
    first = head * size
    for weight in (attention.q_proj.weight, attention.k_proj.weight):
        weight[first : first + size].zero_()
    attention.k_proj.weight[first : first + FAST_PAIRS, 0] = 0.25
    attention.q_proj.weight[first : first + FAST_PAIRS, 0] = 0.25 * torch.cos(angle)
    attention.q_proj.weight[first + half : first + half + FAST_PAIRS, 0] = -0.25 * torch.sin(angle)
    attention.q_norm.weight.fill_(LOOK_BACK_SCALE)
    attention.k_norm.weight.fill_(LOOK_BACK_SCALE)


def _slow(size: int) -> list[int]:
    """List the rows of a head whose rotary angle hardly turns over the length of a record."""
    return [row for row in range(size) if row % (size // 2) >= FAST_PAIRS]


def _orthogonal(size: int, source: torch.Generator) -> torch.Tensor:
    """Draw a random rotation."""
    rotation, _ = torch.linalg.qr(torch.randn((size, size), generator=source))
    return rotation
