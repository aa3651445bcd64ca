"""Every metric that engram exports, by the name of its family, with its labels."""

from prometheus_client.metrics import MetricWrapperBase

from engram import metrics

EXPORTED: dict[str, frozenset[str]] = {
    metric._name: frozenset(metric._labelnames)
    for metric in vars(metrics).values()
    if isinstance(metric, MetricWrapperBase)
}
# Of prometheus_client, for every process.
PROCESS = {"process_resident_memory_bytes": frozenset(), "process_cpu_seconds": frozenset()}
