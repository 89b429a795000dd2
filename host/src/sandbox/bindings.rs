//! What a node offers beside WASI 0.2, as both SDKs see it.

wasmtime::component::bindgen!({
    path: "../sdk/wit",
    world: "skiff:service/imports",
    imports: {
        "wasi:config": trappable,
        default: async | trappable,
    },
    with: {
        "wasi:keyvalue/store.bucket": crate::capabilities::Bucket,
        "wasi:keyvalue/atomics.cas": crate::capabilities::Cas,
    },
});
