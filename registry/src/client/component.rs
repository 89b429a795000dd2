//! What a `.wasm` file is: checked before anything is sent, so that a broken build fails on the developer's machine and
//! not on a node.
//!
//! A component is taken as it is. A core module for wasip1 is adapted: its preview-1 imports are satisfied by the
//! adapter module that belongs to the wasmtime this cluster runs, as a command if it exports `_start`, else as a reactor.

use bytes::Bytes;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload, TypeRef, Validator};

/// The largest component that is pushed or pulled. A JavaScript service has about 13 MB, most of it the interpreter; a
/// Python one 40 MB. Twenty times as much is a mistake (a debug build of something huge, a wrong file).
pub const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// The largest core module that is adapted. It is held in memory several times meanwhile, on a node as well; a Python
/// interpreter has 30 MB.
const CORE_BYTES_MAX: usize = 128 << 20;

/// The names in a component's world. A service has some dozens of them; this much text is a mistake or an attack.
const WORLD_BYTES_MAX: usize = 1 << 20;

/// Components and modules that lie in one another. Those that people compose have a depth of some few; the compiler's memory
/// grows with the square of it.
pub const NESTING_MAX: usize = 100;

/// A checked component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    pub bytes: Bytes,
    pub world: World,
    /// Whether it was a core module.
    pub adapted: bool,
}

impl Component {
    /// Checks the whole content of the file or image `name`, and adapts it if it is a core module.
    pub fn read(name: &str, bytes: impl Into<Bytes>) -> Result<Self, InvalidWasm> {
        check(name, bytes.into())
    }
}

/// What a component needs and gives: interfaces as `PACKAGE/INTERFACE@VERSION`, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Why a file cannot be pushed as a component.
#[derive(Debug, thiserror::Error)]
pub enum InvalidWasm {
    #[error("{file} is empty (hint: did the build finish?)")]
    Empty { file: String },
    #[error(
        "{file} has {bytes} bytes, more than the {COMPONENT_BYTES_MAX} that a component may have (hint: build it with --release)"
    )]
    TooLarge { file: String, bytes: u64 },
    #[error("{file} is WebAssembly text, not a binary (hint: convert it with `wasm-tools parse {file} -o OUT.wasm`)")]
    Text { file: String },
    #[error("{file} is not WebAssembly: it starts with {start} (hint: push the .wasm file that the build wrote)")]
    NotWasm { file: String, start: String },
    #[error("{file} is cut off: it ends at byte {offset} in the middle of a section (hint: build or copy it again)")]
    Truncated { file: String, offset: usize },
    #[error("{file} is broken at byte {offset}: {why} (hint: build or copy it again)")]
    Corrupt { file: String, offset: usize, why: String },
    #[error(
        "{file} is a core module that imports {imports}, which wasip1 does not have (hint: build for wasm32-wasip2 or wasm32-wasip1)"
    )]
    ForeignImports { file: String, imports: String },
    #[error("{file} has components or modules in one another more than {NESTING_MAX} deep (hint: what generated it?)")]
    Nested { file: String },
    #[error(
        "{file} is a core module of {bytes} bytes, and can be adapted up to {CORE_BYTES_MAX} (hint: build it with --release, or for wasm32-wasip2)"
    )]
    LargeCore { file: String, bytes: usize },
    #[error("{file} has imports and exports with {WORLD_BYTES_MAX} bytes of names or more (hint: what generated it?)")]
    World { file: String },
    #[error("{file} is a core module that exports neither _start nor a WIT world (hint: build for wasm32-wasip2)")]
    NoExports { file: String },
    #[error("{file} is a core module that cannot be adapted to a component: {why} (hint: build for wasm32-wasip2)")]
    Adapt { file: String, why: String },
}

fn check(file: &str, bytes: Bytes) -> Result<Component, InvalidWasm> {
    let file = || file.to_owned();
    if bytes.is_empty() {
        return Err(InvalidWasm::Empty { file: file() });
    }
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(InvalidWasm::TooLarge { file: file(), bytes: bytes.len() as u64 });
    }
    if Parser::is_component(&bytes) {
        if is_too_deep(&bytes) {
            return Err(InvalidWasm::Nested { file: file() });
        }
        validate(&file(), &bytes)?;
        let world = world(&file(), &bytes)?;
        return Ok(Component { bytes, world, adapted: false });
    }
    if Parser::is_core_wasm(&bytes) {
        if bytes.len() > CORE_BYTES_MAX {
            return Err(InvalidWasm::LargeCore { file: file(), bytes: bytes.len() });
        }
        validate(&file(), &bytes)?;
        let bytes = adapt(&file(), &bytes)?;
        let world = world(&file(), &bytes)?;
        if world.exports.is_empty() {
            return Err(InvalidWasm::NoExports { file: file() });
        }
        return Ok(Component { bytes, world, adapted: true });
    }
    if b"\0asm\x0d\x00\x01\x00".starts_with(&bytes) || b"\0asm\x01\x00\x00\x00".starts_with(&bytes) {
        return Err(InvalidWasm::Truncated { file: file(), offset: bytes.len() });
    }
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"(module")
        || text.starts_with(b"(component")
        || text.starts_with(b";;")
        || text.starts_with(b"(;")
    {
        return Err(InvalidWasm::Text { file: file() });
    }
    // Four bytes tell a gzip, an ELF file or an HTML page apart.
    let start = format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(4)]));
    Err(InvalidWasm::NotWasm { file: file(), start })
}

/// Whether components and modules lie in one another deeper than [`NESTING_MAX`]. What cannot be read is not deep: whoever
/// validates it says why.
pub fn is_too_deep(bytes: &[u8]) -> bool {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            Err(_) => return false,
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}

fn validate(file: &str, bytes: &[u8]) -> Result<(), InvalidWasm> {
    Validator::new().validate_all(bytes).map(drop).map_err(|e| broken(file, bytes, &e))
}

fn broken(file: &str, bytes: &[u8], e: &wasmparser::BinaryReaderError) -> InvalidWasm {
    let ends = e.offset() >= bytes.len() || e.message().contains("unexpected end");
    match ends {
        true => InvalidWasm::Truncated { file: file.to_owned(), offset: bytes.len() },
        false => InvalidWasm::Corrupt { file: file.to_owned(), offset: e.offset(), why: e.message().to_owned() },
    }
}

fn world(file: &str, bytes: &[u8]) -> Result<World, InvalidWasm> {
    let fail = |e| broken(file, bytes, &e);
    let mut world = World::default();
    let mut names_bytes = 0_usize;
    let mut depth = 0_usize;
    let mut add = |names: &mut Vec<String>, name: &str| {
        names_bytes += name.len() + size_of::<String>();
        if names_bytes >= WORLD_BYTES_MAX {
            return Err(InvalidWasm::World { file: file.to_owned() });
        }
        names.push(name.to_owned());
        Ok(())
    };
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(fail)? {
            // Nested components and modules have worlds of their own.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    add(&mut world.imports, import.map_err(fail)?.name.name)?;
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    add(&mut world.exports, export.map_err(fail)?.name.name)?;
                }
            }
            _ => {}
        }
    }
    Ok(world)
}

fn adapt(file: &str, module: &[u8]) -> Result<Bytes, InvalidWasm> {
    let core = CoreModule::read(file, module)?;
    // A module with a WIT world of its own may import that world's interfaces: the encoder checks those.
    if !core.has_world && !core.foreign.is_empty() {
        return Err(InvalidWasm::ForeignImports { file: file.to_owned(), imports: core.foreign.join(", ") });
    }
    let adapter = match core.has_start {
        true => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let encode = || {
        wit_component::ComponentEncoder::default()
            .validate(true)
            .module(module)?
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?
            .encode()
    };
    match encode() {
        Ok(component) => Ok(component.into()),
        Err(e) => Err(InvalidWasm::Adapt { file: file.to_owned(), why: format!("{e:#}") }),
    }
}

#[derive(Debug, Default)]
struct CoreModule {
    has_start: bool,
    has_world: bool,
    foreign: Vec<String>,
}

impl CoreModule {
    fn read(file: &str, module: &[u8]) -> Result<Self, InvalidWasm> {
        let mut core = Self::default();
        let fail = |e| broken(file, module, &e);
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(fail)? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(fail)?;
                        let known = import.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME
                            && matches!(import.ty, TypeRef::Func(_));
                        if !known {
                            core.foreign.push(format!("{}.{}", import.module, import.name));
                        }
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        core.has_start |= export.map_err(fail)?.name == "_start";
                    }
                }
                Payload::CustomSection(section) => core.has_world |= section.name().starts_with("component-type"),
                _ => {}
            }
        }
        Ok(core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 0))))"#;

    fn check_wat(text: &str) -> Result<Component, InvalidWasm> {
        check("a.wasm", wat::parse_str(text).unwrap().into())
    }

    #[test]
    fn adapts_a_core_command() {
        let component = check_wat(COMMAND).unwrap();
        assert!(component.adapted);
        assert!(Parser::is_component(&component.bytes));
        assert!(
            component.world.exports.iter().any(|e| e.starts_with("wasi:cli/run@")),
            "{:?}",
            component.world.exports
        );
        assert!(
            component.world.imports.iter().any(|i| i.starts_with("wasi:cli/exit@")),
            "{:?}",
            component.world.imports
        );
        assert_eq!(component, check_wat(COMMAND).unwrap(), "adapting must be repeatable");
    }

    #[test]
    fn lists_the_outer_world_only() {
        let component = check_wat(
            r#"(component
                (import "a:b/c@1.0.0" (instance))
                (component $inner (import "hidden" (func)))
                (core module (func (export "f")))
                (instance $i)
                (export "d:e/f@2.0.0" (instance $i)))"#,
        )
        .unwrap();
        assert_eq!(
            (component.world.imports, component.world.exports),
            (vec!["a:b/c@1.0.0".into()], vec!["d:e/f@2.0.0".into()])
        );
    }

    #[test]
    fn what_lies_too_deep_is_refused_before_anything_else_reads_it() {
        const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
        let nested = |depth: usize| {
            let mut component = HEADER.to_vec();
            for _ in 0..depth {
                // A section that has a component, its length in two bytes.
                let length = component.len();
                component = [HEADER, &[4, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8], &component].concat();
            }
            component
        };
        assert!(!is_too_deep(&nested(NESTING_MAX)) && is_too_deep(&nested(NESTING_MAX + 1)));
        let text = check("a.wasm", nested(NESTING_MAX + 1).into()).unwrap_err().to_string();
        assert!(text.starts_with("a.wasm has components or modules in one another more than 100 deep"), "{text}");
        check("a.wasm", nested(NESTING_MAX).into()).unwrap();
    }

    #[test]
    fn says_what_is_wrong_and_in_which_file() {
        let module = Bytes::from(wat::parse_str(COMMAND).unwrap());
        let cases = [
            (Bytes::new(), "a.wasm is empty"),
            (Bytes::from_static(COMMAND.as_bytes()), "a.wasm is WebAssembly text"),
            (Bytes::from_static(b"\x7fELF\x02\x01\x01"), "a.wasm is not WebAssembly"),
            (Bytes::from_static(b"\0asm\x0d\x00"), "a.wasm is cut off"),
            (module.slice(..module.len() - 3), "a.wasm is cut off"),
            (Bytes::from_static(b"\0asm\x0d\x00\x01\x00\xff\x01\x00"), "a.wasm is broken at byte"),
        ];
        for (bytes, expected) in cases {
            let text = check("a.wasm", bytes).unwrap_err().to_string();
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn says_why_a_core_module_cannot_be_adapted() {
        let text = check_wat(r#"(module (import "env" "now" (func)))"#).unwrap_err().to_string();
        assert!(text.contains("imports env.now"), "{text}");
        let text = check_wat(r#"(module (memory (export "memory") 1) (func (export "add")))"#).unwrap_err().to_string();
        assert!(text.contains("neither _start nor"), "{text}");
    }

    #[test]
    fn never_panics_on_a_damaged_component() {
        let component = check_wat(COMMAND).unwrap().bytes;
        for cut in (0..component.len()).step_by(97) {
            // A cut between two sections may leave something whole.
            drop(check("a.wasm", component.slice(..cut)));
        }
        for at in (8..component.len()).step_by(101) {
            let mut damaged = component.to_vec();
            damaged[at] ^= 0xff;
            drop(check("a.wasm", damaged.into()));
        }
    }
}
