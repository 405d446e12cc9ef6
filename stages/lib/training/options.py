"""The options of one training: those of the section `training`, but for what its own block says."""

from pydantic import BaseModel

from stages.lib.params.schema import TrainingOptions


def resolve(common: TrainingOptions, block: BaseModel) -> TrainingOptions:
    """The options that hold for one block of params.yaml."""
    own = block.model_fields_set & TrainingOptions.model_fields.keys()
    return common.model_copy(update={name: getattr(block, name) for name in own})
