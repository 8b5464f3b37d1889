"""Published checkpoints that a user can name as a scorer: size, needs, and quality with its source."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """Who published a preset's figures.

    Attributes:
        name: in a few words; where the figures have two publishers, that of `mrr10` is first. In brackets, what was
            ranked where that is out of the ordinary.
        pages: where the figures stand.
    """

    name: str
    pages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preset:
    """A checkpoint on the model hub.

    Attributes:
        kind: a key of `ray_rerank.operators.scorers.registry.FAMILIES`.
        model: its hub id.
        parameters: in millions, three digits.
        hub_megabytes: of the fp32 weights as the hub lists them, 4 bytes a parameter; what `parameters` rests on.
        hardware: judged by size: from 200 million parameters on, a GPU is advised.
        needs: what is in the way of using it as it is, if anything.
        settings: what `scorer:` in a job file must say besides `kind` and `model`.
        mrr10: MRR@10 on MS MARCO passage dev, as published; None where nothing was found.
        ndcg10: nDCG@10 of re-ranking for TREC DL 2019 passages, as published; None where nothing was found.
        source: of `mrr10` and `ndcg10`; None where there is neither.
    """

    kind: str
    model: str
    parameters: float
    hub_megabytes: float
    hardware: str
    needs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    mrr10: float | None = None
    ndcg10: float | None = None
    source: Source | None = None

    @property
    def fp16_megabytes(self) -> int:
        """The weights at 2 bytes a parameter; activations come on top."""
        return round(2 * self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        source = self.source and {"name": self.source.name, "pages": list(self.source.pages)}
        own = {"needs": list(self.needs), "source": source, "fp16_megabytes": self.fp16_megabytes}
        return asdict(self) | own


_ANY = "CPU or GPU"
_GPU = "GPU advised"

_FEW = "a stage before it that keeps about 50"
_CONVERT = "conversion to safetensors (hub's main branch is pickle)"
_BRANCH = "a revision (hub's main branch is pickle)"  # a pull request of the hub's converter bot, not merged

_DOCS = "https://github.com/UKPLab/sentence-transformers/blob/master/docs"
_SBERT_CROSS = Source("sentence-transformers", (f"{_DOCS}/cross_encoder/pretrained_models.md",))
_SBERT_BI = Source("sentence-transformers", (f"{_DOCS}/pretrained-models/msmarco-v5.md",))

_GAGGLE = "https://github.com/castorini/pygaggle/blob/master/docs"
_ZOO = "https://github.com/webis-de/lightning-ir/blob/main/docs/models/reranking.csv"
_LIGHTNING = Source("Lightning IR", (_ZOO,))
_MONOT5 = Source("pygaggle; Lightning IR", (f"{_GAGGLE}/experiments-monot5-tpu.md", _ZOO))
_MONOT5_LARGE = Source("pygaggle; Lightning IR", (f"{_GAGGLE}/experiments-monot5-gpu.md", _ZOO))
_DUOT5 = Source("pygaggle (over monoT5's top 50)", (f"{_GAGGLE}/experiments-duot5-tpu.md",))
_COLBERTV2 = Source("its paper (retrieval); Lightning IR", ("https://arxiv.org/abs/2112.01488", _ZOO))

PRESETS: tuple[Preset, ...] = (
    Preset("cross-encoder", "cross-encoder/ms-marco-TinyBERT-L2-v2", 4.39, 17.6, _ANY,
           mrr10=0.3256, ndcg10=0.6984, source=_SBERT_CROSS),
    Preset("cross-encoder", "cross-encoder/ms-marco-MiniLM-L2-v2", 15.6, 62.5, _ANY,
           mrr10=0.3485, ndcg10=0.7101, source=_SBERT_CROSS),
    Preset("cross-encoder", "cross-encoder/ms-marco-MiniLM-L4-v2", 19.2, 76.7, _ANY,
           mrr10=0.3770, ndcg10=0.7304, source=_SBERT_CROSS),
    Preset("cross-encoder", "cross-encoder/ms-marco-MiniLM-L6-v2", 22.7, 90.9, _ANY,
           mrr10=0.3901, ndcg10=0.7430, source=_SBERT_CROSS),
    Preset("cross-encoder", "cross-encoder/ms-marco-MiniLM-L12-v2", 33.4, 133, _ANY,
           mrr10=0.3902, ndcg10=0.7431, source=_SBERT_CROSS),
    Preset("cross-encoder", "cross-encoder/ms-marco-electra-base", 109, 438, _ANY,
           mrr10=0.3641, ndcg10=0.7199, source=_SBERT_CROSS),
    Preset("monot5", "castorini/monot5-base-msmarco", 223, 892, _GPU, (_BRANCH,),
           {"revision": "refs/pr/1"}, mrr10=0.3816, ndcg10=0.723, source=_MONOT5),
    Preset("monot5", "unicamp-dl/mt5-base-mmarco-v2", 582, 2330, _GPU, (_BRANCH,),
           {"revision": "refs/pr/1", "targets": ["▁no", "▁yes"]}),
    Preset("monot5", "castorini/monot5-large-msmarco", 738, 2950, _GPU, (_BRANCH,),
           {"revision": "refs/pr/2"}, mrr10=0.3937, ndcg10=0.720, source=_MONOT5_LARGE),
    Preset("monot5", "castorini/monot5-3b-msmarco", 2850, 11400, _GPU, (_CONVERT,),
           mrr10=0.3984, ndcg10=0.726, source=_MONOT5),
    Preset("rankt5", "Soyoung97/RankT5-base", 223, 892, _GPU, (_BRANCH,),
           {"revision": "refs/pr/1"}, ndcg10=0.734, source=_LIGHTNING),
    Preset("rankt5", "Soyoung97/RankT5-3b", 2850, 11410, _GPU, (_BRANCH,),
           {"revision": "refs/pr/1"}, ndcg10=0.721, source=_LIGHTNING),
    Preset("duot5", "castorini/duot5-base-msmarco", 223, 892, _GPU, (_FEW, _CONVERT),
           mrr10=0.3929, source=_DUOT5),
    Preset("duot5", "castorini/duot5-3b-msmarco", 2850, 11400, _GPU, (_FEW, _BRANCH),
           {"revision": "refs/pr/1"}, mrr10=0.4091, source=_DUOT5),
    Preset("bi-encoder", "sentence-transformers/all-MiniLM-L6-v2", 22.7, 90.9, _ANY),
    Preset("bi-encoder", "sentence-transformers/multi-qa-MiniLM-L6-cos-v1", 22.7, 90.9, _ANY,
           ndcg10=0.6555, source=_SBERT_BI),
    Preset("bi-encoder", "sentence-transformers/msmarco-MiniLM-L6-cos-v5", 22.7, 90.9, _ANY,
           mrr10=0.3227, ndcg10=0.6746, source=_SBERT_BI),
    Preset("bi-encoder", "sentence-transformers/msmarco-distilbert-dot-v5", 66.4, 265, _ANY,
           mrr10=0.3725, ndcg10=0.7014, source=_SBERT_BI),
    Preset("bi-encoder", "sentence-transformers/msmarco-bert-base-dot-v5", 109, 438, _ANY,
           mrr10=0.3808, ndcg10=0.7051, source=_SBERT_BI),
    Preset("colbert", "answerdotai/answerai-colbert-small-v1", 33.4, 134, _ANY),
    Preset("colbert", "colbert-ir/colbertv2.0", 110, 438, _ANY,
           mrr10=0.397, ndcg10=0.732, source=_COLBERTV2),
    Preset("colbert", "lightonai/GTE-ModernColBERT-v1", 149, 596, _ANY,
           ndcg10=0.722, source=_LIGHTNING),
)  # fmt: skip
"""By kind, smallest first. Looked up in November 2026 in stored copies of the pages and of the hub's file lists."""
