use std::io::Write;

use super::*;

const WASM: &[u8] = b"\0asm\x0d\0\x01\0component";
const MAX: u64 = 1 << 20;

/// A layer with these files, as docker writes it.
fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn searched(mut search: Search, layers: &[Vec<u8>]) -> Result<(Option<String>, Vec<u8>), String> {
    let mut sink = Vec::new();
    for layer in layers.iter().rev() {
        match search.look(layer.as_slice(), &mut sink).map_err(|error| error.to_string())? {
            Look::Enough => break,
            Look::Below => {}
        }
    }
    let path = search.end().map_err(|unfit| unfit.to_string())?;
    Ok((path, sink))
}

/// In layers, the lowest first, of an image that runs these words on wasi/wasm.
fn run(words: &[&str], layers: &[Vec<u8>]) -> Result<String, String> {
    let config = serde_json::json!({"architecture": "wasm", "os": "wasi", "config": {"Entrypoint": words}});
    let search = Search::with_config(MAX, config.to_string().as_bytes()).unwrap();
    let (path, found) = searched(search, layers)?;
    assert!(found.starts_with(WASM), "{found:?}");
    Ok(format!("{}{}", path.unwrap_or_default(), String::from_utf8_lossy(&found[WASM.len()..])))
}

fn wasm(more: &str) -> Vec<u8> {
    [WASM, more.as_bytes()].concat()
}

#[test]
fn the_file_that_the_image_runs_is_found() {
    let files = layer(&[("etc/a", b"x"), ("app/cart.wasm", WASM), ("app/other.wasm", b"x")]);
    for words in
        [&["/app/cart.wasm", "--flag"][..], &["wasmtime", "app/cart.wasm"], &["/bin/sh", "-c", "./app/cart.wasm -v"]]
    {
        assert_eq!(run(words, std::slice::from_ref(&files)), Ok("app/cart.wasm".into()), "{words:?}");
    }
    // Without a suffix, and relative to the folder that it runs in.
    let config = br#"{"architecture":"wasm","os":"wasip1","config":{"Cmd":["cart"],"WorkingDir":"/app"}}"#;
    let search = Search::with_config(MAX, config).unwrap();
    assert_eq!(searched(search, &[layer(&[("app/cart", WASM)])]).unwrap().0, Some("app/cart".into()));
}

#[test]
fn without_one_it_is_the_only_wasm_file() {
    let some = layer(&[("a.txt", b"x"), ("b/c.wasm", WASM)]);
    assert_eq!(run(&[], &[layer(&[("d", b"x")]), some.clone(), layer(&[])]), Ok("b/c.wasm".into()));
    let error = run(&[], &[some, layer(&[("d.wasm", WASM)])]).unwrap_err();
    assert!(
        error.starts_with("it has several files that it could be: d.wasm, b/c.wasm (hint: name the file"),
        "{error}"
    );
    let error = run(&[], &[layer(&[("d", b"x")])]).unwrap_err();
    assert!(error.starts_with("it is a container image for wasi/wasm without a .wasm file"), "{error}");
}

#[test]
fn upper_layers_hide_and_delete_what_is_below() {
    let below = layer(&[("app/a.wasm", &wasm(" old"))]);
    assert_eq!(
        run(&["/app/a.wasm"], &[below.clone(), layer(&[("app/a.wasm", &wasm(" new"))])]),
        Ok("app/a.wasm new".into())
    );
    assert_eq!(run(&[], &[below.clone(), layer(&[("app/a.wasm", &wasm(" new"))])]), Ok("app/a.wasm new".into()));
    for gone in ["app/.wh.a.wasm", ".wh.app", "app/.wh..wh..opq", ".wh..wh..opq"] {
        for words in [&["/app/a.wasm"][..], &[]] {
            let error = run(words, &[below.clone(), layer(&[(gone, b"")])]).unwrap_err();
            assert!(error.contains("not in its layers") || error.contains("without a .wasm file"), "{gone}: {error}");
        }
        // What is put back in the same layer is there.
        assert_eq!(run(&[], &[below.clone(), layer(&[(gone, b""), ("app/b.wasm", WASM)])]), Ok("app/b.wasm".into()));
    }
    assert_eq!(run(&[], &[below, layer(&[("app/.wh.b.wasm", b"")])]), Ok("app/a.wasm old".into()));
}

#[test]
fn the_last_file_of_a_name_in_one_layer_counts() {
    let twice = layer(&[("a.wasm", &wasm(" first")), ("a.wasm", &wasm(" last"))]);
    assert_eq!(run(&["a.wasm"], &[twice]), Ok("a.wasm last".into()));
}

#[test]
fn long_names_are_read_and_endless_ones_refused() {
    let long = format!("{}/a.wasm", "folder/".repeat(60));
    let path = normal(&long).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(WASM.len() as u64);
    let mut gnu = tar::Builder::new(Vec::new());
    gnu.append_data(&mut header, &long, WASM).unwrap();
    assert_eq!(run(&[&path], &[gnu.into_inner().unwrap()]), Ok(path.clone()));
    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([("path", path.as_bytes())]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(WASM.len() as u64);
    pax.append_data(&mut header, "short", WASM).unwrap();
    assert_eq!(run(&[&path], &[pax.into_inner().unwrap()]), Ok(path));
    let mut endless = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    endless.append(&header, io::empty()).unwrap();
    let error = run(&["a.wasm"], &[endless.into_inner().unwrap()]).unwrap_err();
    assert!(error.starts_with("a name in its layers has more than 4096 bytes"), "{error}");
}

#[test]
fn what_is_no_component_says_what_it_is() {
    let cases: [(&[&str], Vec<u8>, &str); 6] = [
        (&["/a.wasm"], layer(&[("b.wasm", WASM)]), "it runs a.wasm, which is not in its layers, but b.wasm"),
        (
            &["/a.wasm"],
            layer(&[("a.wasm", b"\x7fELF")]),
            "a.wasm in it is no WebAssembly: it starts with \"\\u{7f}ELF\"",
        ),
        (&[], b"<html>".to_vec(), "its layer is neither WebAssembly nor a tar: it starts with \"<htm\""),
        (&[], Vec::new(), "its layer is empty"),
        (&[], layer(&[("a.wasm", WASM)])[..515].to_vec(), "its layer is damaged"),
        (&["../a.wasm"], layer(&[("../a.wasm", WASM)][..0]), "it is a container image for wasi/wasm without"),
    ];
    for (words, layer, expected) in cases {
        let error = run(words, &[layer]).unwrap_err();
        assert!(error.starts_with(expected) && error.contains("(hint: "), "{error}");
    }
    let native = br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/entry.sh"],"Cmd":["nginx"]}}"#;
    let error = Search::with_config(MAX, native).unwrap_err().to_string();
    assert!(error.starts_with("it is a container image for linux/amd64, which runs /entry.sh (hint: "), "{error}");
    assert!(Search::with_config(MAX, b"[]").is_err() && Search::with_config(MAX, b"{").is_err());
}

#[test]
fn a_link_in_its_place_is_refused() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "a.wasm", "/etc/passwd").unwrap();
    let error = run(&["a.wasm"], &[tar.into_inner().unwrap()]).unwrap_err();
    assert!(error.starts_with("a.wasm in it is a link, not a file"), "{error}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    // Beside the component, as the component, and in layers that are each small enough.
    let large = vec![0; 5 << 20];
    let beside = gzip(&layer(&[("zeros", &large), ("a.wasm", WASM)]));
    assert!(run(&["a.wasm"], &[beside]).unwrap_err().contains("unpack to more than is allowed"));
    let component = [WASM, &large].concat();
    for bomb in [gzip(&component), gzip(&layer(&[("a.wasm", &component)])), component] {
        assert!(run(&["a.wasm"], &[bomb]).unwrap_err().contains("has more than the 1048576 bytes"));
    }
    let parts = vec![gzip(&layer(&[("zeros", &large[..(1 << 20)])])); 5];
    assert!(run(&["a.wasm"], &parts).unwrap_err().contains("unpack to more than is allowed"));
    let deletions: Vec<(String, &[u8])> = (0..1100).map(|i| (format!(".wh.{i}"), &b""[..])).collect();
    let deletions: Vec<(&str, &[u8])> = deletions.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    assert!(run(&[], &[layer(&deletions)]).unwrap_err().contains("delete more than 1024 files"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_a_search(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), at in 0..1500_usize, wild in proptest::num::u8::ANY) {
        drop(run(&[], &[bytes.clone()]));
        let mut damaged = layer(&[("a", b"x"), ("b.wasm", WASM)]);
        damaged[at % 1500] ^= wild;
        drop(searched(Search::new(MAX), &[damaged.clone(), gzip(&damaged)]));
        bytes.splice(0..0, *b"\x28\xb5\x2f\xfd");
        drop(searched(Search::new(MAX), &[bytes]));
    }
}
