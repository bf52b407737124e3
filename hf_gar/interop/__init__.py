"""The models as others' benchmarks take them: mteb, HEAR and X-ARES."""
