"""Small random models of every family, saved as their makers save them, with real tokenizer classes."""

import json
import random
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from support.candidates import WORDS

_TEMPLATE_WORDS = (
    "Query: Document: Relevant: Document0: Document1: Document2: More relevant: Score: 0 1 2 3 4 5 6 7 8 9"
)


def write_t5(folder: Path, seed: int = 0, whole: tuple[str, ...] = ("▁true", "▁false"), **config: Any) -> Path:
    """A small random T5 with a Unigram tokenizer trained on WORDS; `whole` are pieces that it surely has."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import Unigram
    from tokenizers.trainers import UnigramTrainer
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    raw = Tokenizer(Unigram())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    special = ["<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    raw.train_from_iterator([" ".join(WORDS)] * 3 + [_TEMPLATE_WORDS] * 2, trainer)
    vocab = [(piece, score) for piece, score in json.loads(raw.to_str())["model"]["vocab"] if "Document" not in piece]
    known = {piece for piece, _ in vocab}
    vocab += [(piece, -3.0) for piece in ("▁Document", *"0123456789", *whole) if piece not in known]
    vocab += [(f"<extra_id_{number}>", 0.0) for number in reversed(range(100))]
    tokenizer = T5Tokenizer(vocab=vocab)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": len(tokenizer)}
    shape |= {"decoder_start_token_id": 0, "initializer_factor": 1.0}
    T5ForConditionalGeneration(T5Config(**(shape | config))).save_pretrained(folder)
    return folder


def write_encoder(folder: Path, seed: int = 0) -> Path:
    """The BERT inside a small random cross-encoder, without its head."""
    from transformers import AutoModel, AutoTokenizer

    whole = write_cross_encoder(folder.parent / f"{folder.name}-whole", seed)
    AutoModel.from_pretrained(whole).save_pretrained(folder)
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    return folder


def write_bi_encoder(
    folder: Path,
    seed: int = 0,
    pooling: str = "mean",
    dense: int | None = None,
    normalize: bool = True,
    prompts: dict[str, str] | None = None,
    similarity: str | None = None,
) -> Path:
    """A small random sentence-transformers checkpoint."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    encoder = modules.Transformer(str(write_encoder(folder.parent / f"{folder.name}-encoder", seed)), max_seq_length=48)
    parts = [encoder, modules.Pooling(encoder.get_embedding_dimension(), pooling)]
    if dense:
        torch.manual_seed(seed)
        parts.append(modules.Dense(parts[-1].get_embedding_dimension(), dense))
    if normalize:
        parts.append(modules.Normalize())
    SentenceTransformer(modules=parts, prompts=prompts, similarity_fn_name=similarity, device="cpu").save_pretrained(
        str(folder), create_model_card=False
    )
    return folder


def write_colbert(folder: Path, seed: int = 0, dimension: int = 16, **metadata: Any) -> Path:
    """A small random checkpoint as Stanford's ColBERT saves one: the projection beside the encoder's weights."""
    import torch
    from safetensors.torch import load_file, save_file

    write_encoder(folder, seed)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(seed)
    prefixed = {f"bert.{name}": value for name, value in weights.items()}
    save_file(
        prefixed | {"linear.weight": torch.randn(dimension, 32) * 0.2},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    settings = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 16, "doc_maxlen": 40}
    (folder / "artifact.metadata").write_text(json.dumps(settings | metadata))
    return folder


def ragged_pairs(count: int, seed: int = 0, longest: int = 60) -> list[tuple[str, str]]:
    """Pairs of ragged length with repeated queries and documents, punctuation and unknown characters."""
    draw = random.Random(seed)
    words = [*WORDS, "naturalisation!", "(wet),", "électro", "—"]

    def text(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, most)))

    queries, documents = [text(10) for _ in range(4)], [text(longest) for _ in range(max(count // 2, 1))]
    return [(draw.choice(queries), draw.choice(documents)) for _ in range(count)]


SHAPES: dict[str, dict[str, Any]] = {
    "Data2VecText": {"bos_token_id": 2, "eos_token_id": 3},
    "Roberta": {"bos_token_id": 2, "eos_token_id": 3},
    "Longformer": {"attention_window": [8, 8], "bos_token_id": 2, "eos_token_id": 3},
    "Bart": {
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
        **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 32),
        **dict.fromkeys(("eos_token_id", "bos_token_id", "decoder_start_token_id", "forced_eos_token_id"), 3),
    },
}


def write_classifier(folder: Path, name: str, seed: int = 0) -> Path:
    """A small random cross-encoder of another architecture than BERT, with the same tokenizer."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(
        write_cross_encoder(folder.parent / f"{folder.name}-tokenizer")
    )
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"max_position_embeddings": 140, "vocab_size": len(tokenizer), "pad_token_id": 0, "num_labels": 1}
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**(shape | SHAPES[name]))
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_cross_encoder(folder: Path, seed: int = 0, **config: Any) -> Path:
    """A small random BERT cross-encoder with a WordPiece tokenizer that knows WORDS."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *ascii_lowercase,
        *(f"##{letter}" for letter in ascii_lowercase),
    ]
    pieces += [*sorted({*WORDS} - {*ascii_lowercase, "naturalisation"}), "natural", "##isation"]
    pieces += ["[unused0]", "[unused1]", *"!(),.?"]  # as BERT's vocabulary has them, and not as special tokens
    tokenizer = BertTokenizerFast(vocab={piece: place for place, piece in enumerate(pieces)}, model_max_length=128)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {
        "max_position_embeddings": 128,
        "num_labels": 1,
        "vocab_size": len(tokenizer),
        "initializer_range": 0.2,
    }
    BertForSequenceClassification(BertConfig(**(shape | config))).save_pretrained(folder)
    return folder
