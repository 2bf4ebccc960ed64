"""The harness: devices, sessions, the one bench loop, statistics. It sees bundles, never models.

    device.open(bundle) -> Session -> bench_sessions -> Timing -> result_document

A device knows how to start a bundle's runner; a session talks to it; the loop neither knows nor
cares whether the runner is a native process, node, or onnxruntime in this process.
"""
