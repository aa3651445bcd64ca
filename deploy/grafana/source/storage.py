"""Postgres, the streams, the disk and the processes: what fills up, and what waits for what."""

from deploy.grafana.source.panels import Board, Query, Row, course
from deploy.grafana.source.queries import quantile, stock

_POSTGRES = Row(
    "Postgres",
    (
        course(
            "Database",
            "Size of everything, vectors and indexes included.",
            "bytes",
            Query(stock("engram_database_bytes"), "database"),
        ),
        course(
            "Largest tables",
            "Without their indexes; vector tables are named by their space.",
            "bytes",
            Query(f"topk(8, {stock('engram_table_bytes', 'table')})", "{{table}}"),
        ),
        course(
            "Largest indexes",
            "All indexes of a table together.",
            "bytes",
            Query(f"topk(8, {stock('engram_index_bytes', 'table')})", "{{table}}"),
        ),
        course(
            "Rows",
            "Live rows by the statistics of Postgres, of the largest tables.",
            "short",
            Query(f"topk(8, {stock('engram_table_live_rows', 'table')})", "{{table}}"),
        ),
        course(
            "Dead rows",
            "Share of a table that vacuum has yet to remove; a long snapshot keeps it from that.",
            "percentunit",
            Query(
                f"topk(8, {stock('engram_table_dead_rows', 'table')} / clamp_min("
                f"{stock('engram_table_dead_rows', 'table')} + "
                f"{stock('engram_table_live_rows', 'table')}, 1000))",
                "{{table}}",
            ),
            ceiling=1,
        ),
        course(
            "Wait for a connection, 99th percentile",
            "By pool. Above some milliseconds the pool or Postgres is the limit.",
            "s",
            Query(quantile(0.99, "engram_pool_wait_seconds", "pool"), "{{pool}}"),
        ),
    ),
)

_STREAMS = Row(
    "Streams and disk",
    (
        course(
            "Stream fill",
            "Share of the limit at which a stream refuses what is new.",
            "percentunit",
            Query(
                f"{stock('engram_stream_bytes', 'stream')} / "
                + stock("engram_stream_limit_bytes", "stream"),
                "{{stream}}",
            ),
            ceiling=1,
        ),
        course(
            "Messages kept",
            "Commands leave when they are done, events after a day.",
            "short",
            Query(stock("engram_stream_messages", "stream"), "{{stream}}"),
        ),
        course(
            "Disk free",
            "Of the data directory, where the services stand beside it (`engram up`).",
            "percentunit",
            Query(
                f"{stock('engram_disk_free_bytes', 'disk')} / "
                + stock("engram_disk_size_bytes", "disk"),
                "{{disk}}",
            ),
            ceiling=1,
        ),
    ),
)

_PROCESSES = Row(
    "Processes",
    (
        course(
            "Memory",
            "Resident size by service.",
            "bytes",
            Query(
                "max by (process) (process_resident_memory_bytes "
                "* on (instance) group_left (process) engram_build_info)",
                "{{process}}",
            ),
        ),
        course(
            "CPU",
            "Cores in use by service.",
            "none",
            Query(
                "sum by (process) (rate(process_cpu_seconds_total[$__rate_interval]) "
                "* on (instance) group_left (process) engram_build_info)",
                "{{process}}",
            ),
        ),
        course(
            "Stock: time to read",
            "The exporter rests in proportion: `counted` reads every memory.",
            "s",
            Query(stock("engram_stock_read_seconds", "tier"), "{{tier}}"),
        ),
        course(
            "Stock: age",
            "How old the figures are that are read from tables.",
            "s",
            Query(
                f"time() - {stock('engram_stock_counted_timestamp_seconds', 'tier')}", "{{tier}}"
            ),
        ),
    ),
)

BOARD = Board(
    "storage",
    "engram: storage",
    "What fills up in Postgres, in the streams and on the disk, and what waits for what.",
    (_POSTGRES, _STREAMS, _PROCESSES),
)
