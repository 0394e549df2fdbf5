"""A synthetic consortium: several sites, every modality, realistic gaps, and a planted truth to find.

:func:`make_consortium` is pure; :func:`write_consortium` puts one folder a site on disk.
"""

from mmfed_simulations.synthetic.consortium import Consortium, make_consortium
from mmfed_simulations.synthetic.settings import SyntheticSettings, settings_from
from mmfed_simulations.synthetic.writer import write_consortium

__all__ = ["Consortium", "SyntheticSettings", "make_consortium", "settings_from", "write_consortium"]
