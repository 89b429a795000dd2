//! Components that attack whoever stores, checks, compiles or starts them, each with one that is just small enough.

use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use skiff_tests::wait::within;

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, request};
use crate::component::{Component, doubling, nested};
use crate::world::World;

/// For an image to be compiled and started on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

pub(crate) fn cases() -> Vec<Case> {
    let all = [starts(), sizes(), compiling(), artifacts()];
    all.into_iter().flatten().map(|case| case.lane(Lane::Compiling).within(500)).collect()
}

/// Pushes a component under a name, applies a service of that name, and takes it away again: what became of it is
/// `200`, the reason of the event that says why not, or who refused it.
fn runs(name: &'static str, component: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Attack {
    Box::new(move |world| {
        let file = world.cluster.write(&format!("{name}.wasm"), component());
        let push = world.cluster.skiff(&["push", name, &file]);
        match push.code {
            Some(0) => applied(world, name),
            _ => format!("push refused: {}", reason(&push.stderr)),
        }
    })
}

fn applied(world: &World, name: &str) -> String {
    let manifest =
        world.cluster.write(&format!("{name}.yaml"), format!("{{kind: Service, name: {name}, image: {name}}}"));
    let apply = world.cluster.skiff(&["apply", "-f", &manifest]);
    if apply.code != Some(0) {
        return format!("apply refused: {}", reason(&apply.stderr));
    }
    let became = within(PATIENCE, &format!("{name} starts, or says why not"), || {
        let failed = world.events(name).into_iter().find_map(|event| {
            let (reason, _) = event.split_once(' ')?;
            reason.ends_with("Failed").then(|| reason.to_owned())
        });
        let started = || world.events(name).iter().any(|event| event.starts_with("Started "));
        failed.or_else(|| started().then(|| "Started".to_owned()))
    });
    let words = match became.as_str() {
        "Started" => ask(world, &request("GET", name, "/", "", b"")).0,
        _ => became,
    };
    world.cluster.skiff(&["delete", "service", name]).ok();
    words
}

/// The first line of an error, without places, which vary.
fn reason(stderr: &str) -> String {
    let line = stderr.lines().next().unwrap_or_default();
    line.split(" (hint").next().unwrap_or_default().to_owned()
}

fn hello(module: &'static str, instances: u32) -> impl Fn() -> Vec<u8> + Send + Sync + 'static {
    move || Component::hello().module(module, instances).bytes()
}

/// What happens when an instance starts.
fn starts() -> Vec<Case> {
    let counting = "(module (func $f (local i32) (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000000))))) (start $f))";
    let growing = "(module (memory 1) (func $f (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable) (start $f))";
    let growing_table = "(module (table 1 funcref) (func $f (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable) (start $f))";
    vec![
        case("an infinite loop in start", runs("start-loop", hello("(module (func $f (loop (br 0))) (start $f))", 1)), "StartFailed")
            .event("start-loop", "StartFailed", "the guest computed for more than 10000 ms")
            .twin(runs("start-counts", hello(counting, 1)), "200")
            .within(400),
        case("a trap in start", runs("start-trap", hello("(module (func $f unreachable) (start $f))", 1)), "StartFailed")
            .event("start-trap", "StartFailed", "unreachable")
            .twin(runs("start-returns", hello("(module (func $f) (start $f))", 1)), "200"),
        case("a memory bomb in start", runs("start-grows", hello(growing, 1)), "StartFailed")
            .event("start-grows", "StartFailed", "more memory than its limit of 64Mi")
            .twin(runs("start-grown", hello("(module (memory 1) (func $f (drop (memory.grow (i32.const 800)))) (start $f))", 1)), "200"),
        case("a memory larger than the limit", runs("memory-large", hello("(module (memory 1200))", 1)), "StartFailed")
            .event("memory-large", "StartFailed", "more memory than its limit of 64Mi")
            .twin(runs("memory-fits", hello("(module (memory 900))", 1)), "200"),
        case("memories that are too large together", runs("memories-large", hello("(module (memory 300))", 6)), "StartFailed")
            .event("memories-large", "StartFailed", "more memory than its limit of 64Mi")
            .twin(runs("memories-fit", hello("(module (memory 150))", 6)), "200"),
        case("a table that grows for ever in start", runs("table-grows", hello(growing_table, 1)), "StartFailed")
            .event("table-grows", "StartFailed", "failed to start a first instance")
            .twin(runs("table-grown", hello("(module (table 1 funcref) (func $f (drop (table.grow (ref.null func) (i32.const 90000)))) (start $f))", 1)), "200"),
    ]
}

/// How many and how large the parts of a component may be.
fn sizes() -> Vec<Case> {
    let functions = |count: u32, exports: bool| {
        move || {
            let mut text = String::from("(module ");
            for i in 0..count {
                let export = if exports { format!("(export \"f{i}\")") } else { String::new() };
                let _ =
                    write!(text, "(func {export} (param i32) (result i32) (i32.add (local.get 0) (i32.const {i})))");
            }
            Component::hello().module(&(text + ")"), 1).bytes()
        }
    };
    vec![
        case("forty memories", runs("memories", hello("(module (memory 1))", 40)), "StartFailed")
            .event("memories", "StartFailed", "exceeds the configured maximum of 16")
            .twin(runs("memories-few", hello("(module (memory 1))", 8)), "200"),
        case("a hundred tables", runs("tables", hello("(module (table 1 funcref))", 100)), "StartFailed")
            .event("tables", "StartFailed", "exceeds the configured maximum of 64")
            .twin(runs("tables-few", hello("(module (table 1 funcref))", 20)), "200"),
        case("a table of ten million", runs("table", hello("(module (table 9999999 funcref))", 1)), "StartFailed")
            .event("table", "StartFailed", "")
            .twin(runs("table-fits", hello("(module (table 90000 funcref))", 1)), "200"),
        case("ten thousand instances of a module", runs("instances", hello("(module)", 9000)), "push refused…")
            .twin(runs("instances-some", hello("(module)", 50)), "200"),
        case("a hundred instances of a module", runs("instances-many", hello("(module)", 100)), "StartFailed")
            .event("instances-many", "StartFailed", "exceeds the configured maximum of 64")
            .twin(runs("instances-few", hello("(module)", 40)), "200"),
        case("ten thousand functions", runs("functions", functions(10_000, false)), "200")
            .twin(runs("functions-few", functions(10, false)), "200"),
        case("ten thousand exports", runs("exports", functions(10_000, true)), "200")
            .twin(runs("exports-few", functions(10, true)), "200"),
        case(
            "components nested ten thousand deep",
            runs("nested", || Component::hello().component(&nested(10_000)).bytes()),
            "push refused…",
        )
        .twin(runs("nested-a-little", || Component::hello().component(&nested(90)).bytes()), "200"),
        case(
            "components that double with each level",
            runs("doubling", || Component::hello().component(&doubling(40)).bytes()),
            "CompileFailed",
        )
        .twin(runs("doubling-a-little", || Component::hello().component(&doubling(4)).bytes()), "200"),
    ]
}

/// What takes a compiler long.
fn compiling() -> Vec<Case> {
    /// One function of so many instructions that all depend on one another.
    fn laborious(count: u32) -> Vec<u8> {
        let mut text = String::from("(module (func (param i64) (result i64) local.get 0\n");
        for n in 0..count {
            let _ = writeln!(text, "local.get 0 i64.const {n} i64.add i64.mul i64.const {n} i64.rotl");
        }
        Component::hello().module(&(text + "))"), 1).bytes()
    }
    /// Blocks in blocks, with a jump out of each.
    fn deep(count: usize) -> Vec<u8> {
        let text = format!("(module (func {} {}))", "block local.get 0 br_if 0 ".repeat(count), "end ".repeat(count));
        Component::hello().module(&text.replacen("(func ", "(func (param i32) ", 1), 1).bytes()
    }
    vec![
        case("a function of two hundred thousand instructions", runs("laborious", || laborious(40_000)), "200")
            .twin(runs("laborious-a-little", || laborious(1000)), "200")
            .within(120),
        case("blocks nested ten thousand deep", runs("deep", || deep(10_000)), "200")
            .twin(runs("deep-a-little", || deep(100)), "200")
            .within(120),
    ]
}

/// What is in the registry without being what it says.
fn artifacts() -> Vec<Case> {
    const WASM: &str = "application/wasm";
    let with = |name: &'static str, media_type: &'static str, layer: fn() -> Vec<u8>| -> Attack {
        Box::new(move |world| match push_raw(world, name, &[(media_type, layer())], CLAIMS) {
            // Who finds out, apply or the node, may change; that somebody does may not.
            201 => match applied(world, name) {
                words if words.starts_with("apply refused") || words.ends_with("Failed") => "never runs".to_owned(),
                words => words,
            },
            status => format!("registry refused: {status}"),
        })
    };
    let layers = |name: &'static str, layers: fn() -> Vec<(&'static str, Vec<u8>)>| -> Attack {
        Box::new(move |world| match push_raw(world, name, &layers(), "{}") {
            201 => applied(world, name),
            status => format!("registry refused: {status}"),
        })
    };

    let honest = |name: &'static str| with(name, WASM, || std::fs::read(skiff_tests::guest("hello")).unwrap());
    vec![
        case("a config that lies about noise", with("noise", WASM, || vec![7; 1000]), "never runs")
            .twin(honest("noise-honest"), "200"),
        case(
            "a config that lies about a module",
            with("module", WASM, || wat::parse_str("(module)").unwrap()),
            "never runs",
        )
        .twin(honest("module-honest"), "200"),
        case(
            "a config that lies about components nested ten thousand deep",
            with("nested-raw", WASM, || Component::hello().component(&nested(10_000)).bytes()),
            "never runs",
        )
        .twin(with("nested-raw-a-little", WASM, || Component::hello().component(&nested(90)).bytes()), "200"),
        case(
            "a config that lies about an empty component",
            with("empty", WASM, || wat::parse_str("(component)").unwrap()),
            "never runs",
        )
        .twin(honest("empty-honest"), "200"),
        case(
            "a handler of another type",
            with("handler", WASM, || {
                wat::parse_str(
                    "(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m)) \
                 (func $f (canon lift (core func $i \"f\"))) (instance $h (export \"handle\" (func $f))) \
                 (export \"wasi:http/incoming-handler@0.2.0\" (instance $h)))",
                )
                .unwrap()
            }),
            "never runs",
        )
        .twin(honest("handler-honest"), "200"),
        case(
            "a layer of another kind",
            layers("tar", || vec![("application/vnd.oci.image.layer.v1.tar+gzip", vec![7; 100])]),
            "apply refused…",
        )
        .twin(layers("bare", || vec![(WASM, std::fs::read(skiff_tests::guest("hello")).unwrap())]), "200"),
        case("no layer at all", layers("none", Vec::new), "apply refused…").twin(honest("none-honest"), "200"),
    ]
}

const CLAIMS: &str = r#"{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","component":{"exports":["wasi:http/incoming-handler@0.2.0"],"imports":[]}}"#;

/// Pushes layers as they are, as any client of a registry may; the answer to the manifest.
fn push_raw(world: &World, name: &str, layers: &[(&str, Vec<u8>)], config: &str) -> u16 {
    let descriptor = |media_type: &str, bytes: &[u8]| {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("/v2/default/{name}/blobs/uploads/?digest=sha256:{digest}");
        let status = world.cluster.api("POST", &path).body(bytes).send().unwrap().status;
        assert_eq!(status, 201, "a blob of {name}");
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{digest}","size":{}}}"#, bytes.len())
    };
    let config = descriptor("application/vnd.wasm.config.v0+json", config.as_bytes());
    let layers: Vec<String> = layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect();
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{}]}}"#, layers.join(","));
    let put = world.cluster.api("PUT", &format!("/v2/default/{name}/manifests/latest"));
    put.header("content-type", MANIFEST).body(manifest).send().unwrap().status
}
