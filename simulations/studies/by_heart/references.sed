# Round guesses instead of statistics of the patients, for `normalisation = "reference"`; no correlation edges.
# For GNU sed: others know neither `a` with its text on the same line nor `\n` in it.
/^\[model\]/,$d
s/^normalisation = "federated".*/normalisation = "reference"/
/^\[contract.demographics.age\]/a reference_mean = 63\nreference_deviation = 10
/^\[contract.clinical.stage\]/a reference_mean = 1.5\nreference_deviation = 1.1
/^\[contract.clinical.grade\]/a reference_mean = 1\nreference_deviation = 0.8
/^\[contract.clinical.ecog\]/a reference_mean = 1\nreference_deviation = 1
/^\[contract.clinical.ldh\]/a reference_mean = 5.3\nreference_deviation = 0.3
/^\[contract.gene.layers.expression\]/a reference_mean = 4\nreference_deviation = 1.4
/^\[contract.gene.layers.methylation\]/a reference_mean = 0.4\nreference_deviation = 0.2
/^\[contract.metabolite.layer\]/a reference_mean = 2.5\nreference_deviation = 1
s/^source = "site"/source = "none"/
/^threshold = /d
