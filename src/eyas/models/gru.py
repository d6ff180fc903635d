"""`gru`: an encoder-decoder of GRUs: two read, forwards and backwards; one writes, with attention."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncoderDecoderCache, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from eyas.errors import ModelError
from eyas.models.layers import GRU


class GRUConfig(PreTrainedConfig):
    """Settings of a `gru`.

    Args:
        hidden_size: of the word vectors, of both directions of the encoder together, and of the decoder.
        dropout: probability, on the word vectors and before the output.
    """

    model_type = "eyas-gru"
    is_encoder_decoder: bool = True
    vocab_size: int = 8000
    hidden_size: int = 256
    num_hidden_layers: int = 1
    dropout: float = 0.2
    pad_token_id: int = 0
    eos_token_id: int = 1
    decoder_start_token_id: int = 0


class GRUReader(nn.Module):
    """Token ids -> states of both directions."""

    main_input_name = "input_ids"

    def __init__(self, config: GRUConfig, embeddings: nn.Embedding) -> None:
        super().__init__()
        self.embeddings, self.scale = embeddings, config.hidden_size**0.5
        self.gru = GRU(config.hidden_size, config.hidden_size // 2, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> BaseModelOutput:
        """input_ids and attention_mask [batch, length] -> [batch, length, hidden_size], zeros at padding."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        kept = mask.unsqueeze(-1).to(self.embeddings.weight.dtype)
        states = self.gru(self.dropout(self.scale * self.embeddings(input_ids)) * kept, mask != 0)
        return BaseModelOutput(last_hidden_state=states * kept)


class GRUForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Reads with a bidirectional GRU; writes with another, which attends to what was read ("general" scores of Luong et
    al. 2015, without input feeding, so that training runs over all words at once). The words in and out share vectors.

    Its cache looks like a transformer's of one layer and one head: the "keys" of the past are the decoder's states, of
    which only the last is read, those of the source are what the scores compare.
    """

    config_class = GRUConfig
    config: GRUConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config: GRUConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        embeddings = nn.Embedding(config.vocab_size, size, padding_idx=config.pad_token_id)
        self.encoder = GRUReader(config, embeddings)
        self.start, self.compared = nn.Linear(size, size), nn.Linear(size, size, bias=False)
        self.gru = GRU(size, size)
        self.attended = nn.Linear(2 * size, size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.embeddings = value

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """[batch, tokens] what the decoder reads to write `labels`."""
        start = torch.full_like(labels[:, :1], self.config.decoder_start_token_id)
        words = torch.cat([start, labels[:, :-1]], 1)
        return words.masked_fill(words < 0, self.config.pad_token_id)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        labels: Tensor | None = None,
        **options: Any,
    ) -> Seq2SeqLMOutput:
        """Logits [batch, tokens, vocabulary] of the words after those of `decoder_input_ids` [batch, tokens].

        Args:
            input_ids: [batch, length] the source, or `encoder_outputs`.
            attention_mask: [batch, length], 1 = text; by default everything.
            past_key_values: of the words before.
            use_cache: return `past_key_values`.
            labels: [batch, tokens] in place of `decoder_input_ids`: the words to write.
            options: ignored; accepted for compatibility with transformers.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask)
        if decoder_input_ids is None:
            assert labels is not None
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        cache = past_key_values or EncoderDecoderCache(DynamicCache(), DynamicCache())
        read = encoder_outputs[0]
        if cache.is_updated.get(0):
            source: Any = cache.cross_attention_cache.layers[0]
            keys, values = source.keys[:, 0], source.values[:, 0]
        else:
            keys, values = self.compared(read), read
            cache.cross_attention_cache.update(keys[:, None], values[:, None], 0)
            cache.is_updated[0] = True
        mask = torch.ones_like(values[..., 0]) if attention_mask is None else attention_mask.to(values.dtype)
        state = torch.tanh(self.start(values.sum(1) / mask.sum(1, keepdim=True)))
        past: Any = cache.self_attention_cache.layers
        if past and past[0].is_initialized:  # perhaps with no words, as in the exported graph
            state = torch.cat([state[:, None], past[0].keys[:, 0]], 1)[:, -1]
        x = self.dropout(self.encoder.scale * self.encoder.embeddings(decoder_input_ids))
        states = self.gru.after(x, state)
        cache.self_attention_cache.update(states[:, None], states[:, None], 0)
        scores = (states @ keys.transpose(1, 2)).masked_fill(mask[:, None] == 0, torch.finfo(states.dtype).min)
        context = scores.softmax(-1) @ values
        found = torch.tanh(self.attended(torch.cat([context, states], -1)))
        logits = F.linear(self.dropout(found), self.encoder.embeddings.weight, self.bias)
        return Seq2SeqLMOutput(logits=logits, past_key_values=cache if use_cache else None)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.hidden_size**-0.5)
        elif isinstance(module, nn.GRU):
            for name, parameter in module.named_parameters():
                if name.startswith("bias"):
                    init.zeros_(parameter)
                else:
                    (init.xavier_uniform_ if name.startswith("weight_ih") else init.orthogonal_)(parameter)


def gru_of(teacher: PreTrainedModel, hidden_size: int | None, random: bool) -> GRUForConditionalGeneration:
    """A new `gru` with the teacher's vocabulary, and its word vectors if it is as wide and not `random`.

    Args:
        hidden_size: by default the teacher's.

    Raises:
        ModelError: an odd hidden size.
    """
    config: Any = teacher.config
    vectors: Any = teacher.get_input_embeddings()
    special = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    size = hidden_size or vectors.embedding_dim
    if size % 2:
        raise ModelError(f"hidden_size (--hidden-size) is {size}, expected an even number: the gru reads in both ways.")
    ids = {name: getattr(config, name) for name in special}
    student = GRUForConditionalGeneration(GRUConfig(vocab_size=vectors.num_embeddings, hidden_size=size, **ids))
    if vectors.embedding_dim == size and not random:
        with torch.no_grad():  # of the size for which the output is made
            scaled = vectors.weight * (size**-0.5 / vectors.weight.std())
            student.get_input_embeddings().weight.copy_(scaled)
    return student
