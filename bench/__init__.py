"""Benchmarks: us, the peer and the floor in one run, interleaved; results in bench/results."""
