//! Files that are no component that can serve.

use std::fs::File;

use super::super::golden::Golden;
use super::{serving, still_serves};
use skiff_tests::guest;

/// `\0asm`, version 1.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";
/// Types `() -> ()`; imports `env.mystery`; one function; exports `_start`; its body calls nothing.
const UNKNOWN_IMPORT: &[u8] = b"\x01\x04\x01\x60\0\0\x02\x0f\x01\x03env\x07mystery\0\0\x03\x02\x01\0\
\x07\x0a\x01\x06_start\0\x01\x0a\x04\x01\x02\0\x0b";
/// What answers requests, and needs what no node offers.
const FOREIGN: &str = r#"(component
    (import "wasi:keyvalue/store@0.2.0" (instance $store))
    (import "wasi:io/poll@0.3.0" (instance))
    (import "wasi:random/random@0.2.3" (instance))
    (export "wasi:http/incoming-handler@0.2.10" (instance $store)))"#;
/// More than a component may have. The file has a hole where its bytes would be.
const HUGE_BYTES: u64 = 3 << 30;

#[test]
fn bad_components() {
    let cluster = serving();
    let mut golden = Golden::new("components", &cluster);
    let hello = std::fs::read(guest("hello")).unwrap();
    let mut corrupt = hello.clone();
    // Amid the code of a function: still a length that fits, and no instruction.
    let middle = hello.len() / 2;
    corrupt[middle..middle + 64].fill(0xff);
    cluster.write("empty.wasm", "");
    cluster.write("truncated.wasm", &hello[..hello.len() / 2]);
    cluster.write("corrupt.wasm", corrupt);
    cluster.write("text.wasm", "(module)\n");
    cluster.write("no-entry.wasm", HEADER);
    cluster.write("unknown-import.wasm", [HEADER, UNKNOWN_IMPORT].concat());
    cluster.write("folder.wasm/file", "");
    File::create(cluster.path("huge.wasm")).unwrap().set_len(HUGE_BYTES).unwrap();
    for name in ["missing", "empty", "truncated", "corrupt", "text", "no-entry", "unknown-import", "folder", "huge"] {
        let mut run = cluster.skiff(&["push", "bad", &format!("{name}.wasm")]);
        // Where exactly the broken part is, and what is broken there, depends on who compiled the component.
        if let Some((before, rest)) = run.stderr.split_once("at byte ") {
            let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            let after = if name == "corrupt" { after.find(" (hint").map_or("", |hint| &after[hint..]) } else { after };
            run.stderr = format!("{before}at byte <offset>{after}");
        }
        golden.run(name, "", &run);
        still_serves(name, &cluster);
    }
    let core = guest("core");
    golden.varies(core.to_str().unwrap(), "core.wasm");
    cluster.skiff(&["push", "core", core.to_str().unwrap()]).ok();
    golden.run("a component without a handler", "", &cluster.skiff(&["run", "core", "--path", "/"]));
    still_serves("a component without a handler", &cluster);
    cluster.write("foreign.wasm", wat::parse_str(FOREIGN).unwrap());
    cluster.skiff(&["push", "foreign:1", "foreign.wasm"]).ok();
    golden.run("an import that no node offers", "", &cluster.skiff(&["run", "foreign:1"]));
    golden.run("and what it is", "", &cluster.skiff(&["inspect", "foreign:1"]));
    golden.run("the same of the file", "", &cluster.skiff(&["inspect", "./foreign.wasm", "-o", "yaml"]));
    golden.run("no such image to inspect", "", &cluster.skiff(&["inspect", "nobody:1"]));
    golden.run("no such file to inspect", "", &cluster.skiff(&["inspect", "./nobody.wasm"]));
    golden.run("no image's name", "", &cluster.skiff(&["inspect", "Nobody!"]));
    still_serves("an import that no node offers", &cluster);
    golden.check(16);
}
