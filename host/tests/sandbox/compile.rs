//! The compiling process: its limits, its words, and what a power cut leaves of its work.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skiff_disk::sim::SimDisk;
use skiff_disk::{Disk, Mode};
use skiff_host::compile::{CompileError, Compiler, Limits, key};

use crate::support::{compiler, guest};

async fn compile(wasm: &[u8], limits: Limits) -> Result<Vec<u8>, CompileError> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a.wasm"), dir.path().join("a.cwasm"));
    std::fs::write(&from, wasm).unwrap();
    let compiled = compiler(limits).compile(&from, &to).await;
    assert_eq!(compiled.is_ok(), to.exists(), "a file appears with success, and only then");
    compiled.map(|()| std::fs::read(&to).unwrap())
}

async fn invalid(wasm: &[u8]) -> String {
    match compile(wasm, Limits::default()).await {
        Err(error @ CompileError::Invalid { .. }) => {
            assert!(error.is_final());
            error.to_string()
        }
        other => panic!("{:?}", other.map(|code| code.len())),
    }
}

/// A component whose module takes the compiler some seconds.
fn laborious() -> Vec<u8> {
    let mut wat = String::from("(component (core module (func (param i64) (result i64) local.get 0\n");
    for n in 0..300_000 {
        writeln!(wat, "local.get 0 i64.const {n} i64.add i64.mul i64.const {n} i64.rotl").unwrap();
    }
    wat.push_str(")))");
    wat::parse_str(&wat).unwrap()
}

#[tokio::test]
async fn compiling_twice_gives_the_same() {
    let wasm = std::fs::read(guest("hello")).unwrap();
    let one = compile(&wasm, Limits::default()).await.unwrap();
    assert_eq!(one, compile(&wasm, Limits::default()).await.unwrap());
    assert!(key().unwrap().starts_with("wasmtime-48."));
}

#[tokio::test]
async fn what_is_wrong_with_a_component_is_said_with_its_place() {
    let mut cut = std::fs::read(guest("hello")).unwrap();
    cut.truncate(cut.len() / 2);
    let message = invalid(&cut).await;
    assert!(message.contains("out of bounds") && message.contains("bound ="), "{message}");

    // An instruction that does not exist, in a function of a module.
    let sound = wat::parse_str("(component (core module (func i64.const 8589934592 drop)))").unwrap();
    let at = sound.windows(2).position(|pair| pair == [0x42, 0x80]).unwrap();
    let mut wrong = sound.clone();
    wrong[at] = 0xff;
    assert!(compile(&sound, Limits::default()).await.is_ok());
    let message = invalid(&wrong).await;
    assert!(message.contains("0xff") && message.contains("offset"), "{message}");
}

#[tokio::test]
async fn what_is_no_component_is_named() {
    let message = invalid(&std::fs::read(guest("core")).unwrap()).await;
    assert!(message.contains("core WebAssembly module"), "{message}");
    let message = invalid(b"#!/bin/sh\necho no\n").await;
    assert!(message.contains("not WebAssembly"), "{message}");
    invalid(b"").await;
}

#[tokio::test]
async fn what_lies_too_deep_is_refused_before_it_costs_anything() {
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    // A section that has a component, its length in two bytes.
    let around = |inner: Vec<u8>| {
        let length = [(inner.len() & 0x7f) as u8 | 0x80, (inner.len() >> 7) as u8];
        [HEADER, &[4], &length, &inner].concat()
    };
    let nested = |depth: usize| (0..depth).fold(HEADER.to_vec(), |inner, _| around(inner));
    let message = invalid(&nested(101)).await;
    assert!(message.contains("more than 100 deep"), "{message}");
    compile(&nested(100), Limits::default()).await.unwrap();
}

#[tokio::test]
async fn slow_ones_make_room_for_quick_ones() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        std::fs::write(dir.path().join(name), name).unwrap();
        (dir.path().join(name), dir.path().join(format!("{name}.cwasm")))
    };
    let script = "case $(cat) in slow*) exec sleep 600;; *) echo quick; esac";
    let limits = Limits { slow_after: Duration::from_millis(100), ..Limits::default() };
    let compiler = Compiler::new("/bin/sh".into(), Disk::real(), limits).with_args(vec!["-c".into(), script.into()]);
    // As many as begin at once, whatever the machine.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let slow: Vec<_> = (0..(cores / 2).max(2))
        .map(|number| {
            let (compiler, (from, to)) = (compiler.clone(), write(&format!("slow{number}")));
            tokio::spawn(async move { compiler.compile(&from, &to).await })
        })
        .collect();
    // They have their places before it comes.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (from, to) = write("quick");
    tokio::time::timeout(Duration::from_secs(60), compiler.compile(&from, &to)).await.expect("it waits").unwrap();
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn processor_time_is_bounded() {
    let limits = Limits { cpu: Duration::from_secs(1), ..Limits::default() };
    let error = compile(&laborious(), limits).await.unwrap_err();
    assert!(matches!(error, CompileError::CpuLimit { .. }), "{error}");
}

#[tokio::test]
async fn time_is_bounded() {
    let limits = Limits { time: Duration::from_millis(50), ..Limits::default() };
    let error = compile(&laborious(), limits).await.unwrap_err();
    assert!(matches!(error, CompileError::TimeLimit { .. }), "{error}");
}

#[tokio::test]
async fn memory_is_bounded() {
    let limits = Limits { memory_bytes: 200 << 20, ..Limits::default() };
    let error = compile(&laborious(), limits).await.unwrap_err();
    assert!(matches!(error, CompileError::MemoryLimit { .. }), "{error}");
}

#[tokio::test]
async fn output_is_bounded() {
    let wasm = std::fs::read(guest("hello")).unwrap();
    let bytes = compile(&wasm, Limits::default()).await.unwrap().len() as u64;
    let limits = Limits { output_bytes: bytes / 2, ..Limits::default() };
    let error = compile(&wasm, limits).await.unwrap_err();
    assert!(matches!(error, CompileError::OutputLimit { .. }), "{error}");
    let limits = Limits { output_bytes: bytes, ..Limits::default() };
    compile(&wasm, limits).await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_missing_or_crashes_is_named() {
    let missing = Compiler::new("/nowhere/skiff".into(), Disk::real(), Limits::default());
    let out = Path::new("/nowhere/out.cwasm");
    let error = missing.compile(&guest("hello"), out).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/skiff"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let crashing = shell("echo first words >&2; exit 7", Disk::real());
    let error = crashing.compile(&guest("hello"), &dir.path().join("a.cwasm")).await.unwrap_err();
    assert!(error.to_string().contains("first words") && !error.is_final(), "{error}");
}

#[tokio::test]
async fn dropping_a_compilation_kills_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600", pid_file.display());
    let compiler = shell(&script, Disk::real());
    let started = async {
        while !pid_file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (wasm, out) = (guest("hello"), dir.path().join("a.cwasm"));
    tokio::select! {
        compiled = compiler.compile(&wasm, &out) => panic!("{compiled:?}"),
        () = started => {}
    }
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    // Until it was waited for it stays as a zombie.
    while state().is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(std::time::Instant::now() < deadline, "it is still there: {:?}", state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A compiler that is a shell script: what it does about its limits is nothing.
fn shell(script: &str, disk: Disk) -> Compiler {
    Compiler::new("/bin/sh".into(), disk, Limits::default()).with_args(vec!["-c".into(), script.into()])
}

/// Compiles to a disk that loses its power right after, and reads what is left.
async fn after_a_power_cut(seed: u64, skip: Option<skiff_disk::Site>) -> (SimDisk, Option<Vec<u8>>) {
    let sim = SimDisk::new(seed);
    if let Some(site) = skip {
        sim.skip_site(site);
    }
    let disk = sim.disk();
    disk.open("/a.wasm", Mode::Create).unwrap().write_at(&[7; 5000], 0).unwrap();
    shell("cat", disk).compile(Path::new("/a.wasm"), &PathBuf::from("/a.cwasm")).await.unwrap();
    let left = sim.power_cut().disk().read("/a.cwasm", u64::MAX).ok();
    (sim, left)
}

#[tokio::test]
async fn compiled_code_survives_a_power_cut_and_every_sync_is_needed_for_it() {
    let mut sites = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (sim, left) = after_a_power_cut(seed, None).await;
        let left = left.expect("it is durable");
        assert!(left.starts_with(&[7; 5000]) && left.ends_with(b"skiffcw1"), "seed {seed}");
        sites = sim.sites();
    }
    assert_eq!(sites.len(), 2, "its data and its name: {sites:?}");
    for site in sites {
        let mut lost = false;
        for seed in 0..40 {
            let (_, left) = after_a_power_cut(seed, Some(site)).await;
            lost |= !left.is_some_and(|left| left.starts_with(&[7; 5000]) && left.ends_with(b"skiffcw1"));
        }
        assert!(lost, "nothing is lost without the sync at {site}");
    }
}
