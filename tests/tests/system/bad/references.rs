//! Names of images.

use super::super::golden::Golden;
use super::{serving, still_serves};

const IMAGES: [(&str, &str); 12] = [
    ("empty", ""),
    ("upper case", "HELLO"),
    ("bad tag", "hello:a:b"),
    (
        "tag that is too long",
        "hello:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    ("short digest", "hello@sha256:abc"),
    ("digest of another kind", "hello@md5:0000"),
    ("climbs", "../hello"),
    ("space inside", "hel lo"),
    ("a registry where nobody is", "127.0.0.1:1/library/nginx"),
    ("no such image", "nothere"),
    ("no such tag", "hello:nope"),
    ("no such digest", "hello@sha256:0000000000000000000000000000000000000000000000000000000000000000"),
];

#[test]
fn bad_references() {
    let cluster = serving();
    let mut golden = Golden::new("references", &cluster);
    let component = skiff_tests::guest("hello");
    let component = component.to_str().unwrap();
    golden.varies(component, "hello.wasm");
    for (name, image) in IMAGES {
        let text = format!("kind: Service\nname: hello\nimage: '{image}'\n");
        cluster.write("bad.yaml", &text);
        golden.run(&format!("{name}, applied"), &text, &cluster.skiff(&["apply", "-f", "bad.yaml"]));
        still_serves(name, &cluster);
    }
    for (name, args) in [
        ("upper case, pushed", &["push", "HELLO", component][..]),
        ("a registry where nobody is, pushed", &["push", "127.0.0.1:1/x/y", component]),
        ("digest, pushed", &["push", IMAGES[11].1, component]),
        ("no such image, run", &["run", "nothere"]),
        ("short digest, run", &["run", "hello@sha256:abc"]),
    ] {
        golden.run(name, "", &cluster.skiff(args));
        still_serves(name, &cluster);
    }
    golden.check(IMAGES.len() + 5);
}
