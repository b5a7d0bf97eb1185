"""Counters of this process in the Prometheus text format (exposition format 0.0.4)."""

import time
from bisect import bisect_left

import psutil

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, str, int]


class Metrics:
    """Requests by route template, method and status, with their latency; and the process itself.

    Labels are route templates, never addresses, so the number of series is bounded by the number of routes.
    """

    def __init__(self) -> None:
        self._buckets: dict[Labels, list[int]] = {}
        self._seconds: dict[Labels, float] = {}
        self._started_at = time.time()
        self.in_flight = 0

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts one answered request."""
        labels = (route, method, status)
        buckets = self._buckets.get(labels)
        if buckets is None:
            buckets = self._buckets[labels] = [0] * (len(BUCKETS_SECONDS) + 1)
            self._seconds[labels] = 0.0
        buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self._seconds[labels] += seconds

    def render(self) -> str:
        """All series as text."""
        lines = [
            "# HELP perdure_http_request_duration_seconds Time from the request's head to the answer's end.",
            "# TYPE perdure_http_request_duration_seconds histogram",
        ]
        for (route, method, status), buckets in sorted(self._buckets.items()):
            labels = f'route="{_escaped(route)}",method="{_escaped(method)}",status="{status}"'
            total = 0
            for bound, count in zip((*BUCKETS_SECONDS, "+Inf"), buckets, strict=True):
                total += count
                lines.append(f'perdure_http_request_duration_seconds_bucket{{{labels},le="{bound}"}} {total}')
            seconds = self._seconds[route, method, status]
            lines.append(f"perdure_http_request_duration_seconds_sum{{{labels}}} {seconds:.6f}")
            lines.append(f"perdure_http_request_duration_seconds_count{{{labels}}} {total}")
        lines += [
            "# HELP perdure_http_requests_in_flight Requests being answered.",
            "# TYPE perdure_http_requests_in_flight gauge",
            f"perdure_http_requests_in_flight {self.in_flight}",
            *_process_lines(self._started_at),
        ]
        return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _process_lines(started_at: float) -> list[str]:
    process = psutil.Process()
    cpu = process.cpu_times()
    return [
        "# HELP process_resident_memory_bytes Resident memory.",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {process.memory_info().rss}",
        "# HELP process_cpu_seconds_total User and system CPU time.",
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {cpu.user + cpu.system:.3f}",
        "# HELP process_start_time_seconds When the process started, since the epoch.",
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {started_at:.3f}",
    ]
