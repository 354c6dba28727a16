"""The benchmarks: `scripts/bench`, explained in docs/performance.md."""
