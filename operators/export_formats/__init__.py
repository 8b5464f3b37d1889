"""Teacher scores in the forms that training tools read: one file a form."""

from ray_rerank.operators.export_formats.flag_embedding import FLAG_EMBEDDING
from ray_rerank.operators.export_formats.format import Export
from ray_rerank.operators.export_formats.listwise import LISTWISE
from ray_rerank.operators.export_formats.margin_mse import MARGIN_MSE
from ray_rerank.operators.export_formats.ms_marco import MS_MARCO
from ray_rerank.operators.export_formats.mse import MSE
from ray_rerank.operators.export_formats.pylate import PYLATE
from ray_rerank.operators.export_formats.tevatron import TEVATRON

EXPORTS: dict[str, Export] = {
    export.name: export for export in (MARGIN_MSE, MSE, LISTWISE, FLAG_EMBEDDING, PYLATE, TEVATRON, MS_MARCO)
}
