"""The coordinator's studies: making one from a template, signing it, keeping it with its knowledge pack."""

from mmfed_server.studies.shelf import StudyShelf
from mmfed_server.studies.template import study_template

__all__ = ["StudyShelf", "study_template"]
