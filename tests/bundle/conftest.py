from bundle.fixtures import (  # noqa: F401
    arm_bundle,
    copied_bundle,
    host,
    host_bundle,
    wasm_bundle,
)
