"""Reports the running server: metrics, gauges, readiness, HTTP probes. Never changes what the server does."""
