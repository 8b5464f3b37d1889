"""Teacher scores in the forms that training tools read: one file a form."""

from operators.exports.export import Export
from operators.exports.flag_embedding import FLAG_EMBEDDING
from operators.exports.listwise import LISTWISE
from operators.exports.margin_mse import MARGIN_MSE
from operators.exports.ms_marco import MS_MARCO
from operators.exports.mse import MSE
from operators.exports.pylate import PYLATE
from operators.exports.tevatron import TEVATRON

EXPORTS: dict[str, Export] = {
    export.name: export for export in (MARGIN_MSE, MSE, LISTWISE, FLAG_EMBEDDING, PYLATE, TEVATRON, MS_MARCO)
}
