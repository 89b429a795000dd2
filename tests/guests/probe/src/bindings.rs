//! What a node offers beside WASI 0.2.

wit_bindgen::generate!({ path: "../../../sdk/wit", world: "skiff:service/imports", generate_all });
