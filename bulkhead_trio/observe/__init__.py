"""What operators see: logs, metrics, latencies."""
