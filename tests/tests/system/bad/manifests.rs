//! Manifests: each says where it is wrong, what is wrong, and what to do.

use super::super::golden::Golden;
use super::{serving, still_serves};

const HELLO: &str = "kind: Service\nname: hello\nimage: hello\n";

/// Name of the case, and the file. `@` at the start stands for a good service, to which the rest is added.
const CASES: &[(&str, &str)] = &[
    ("unknown field", "@replica: 3\n"),
    ("unknown field, nested", "@http:\n  route: []\n"),
    ("unknown field, far from any", "@colour: blue\n"),
    (
        "unknown field of the envelope",
        "kind: Service\nmetadata:\n  name: hello\n  labls: {a: b}\nspec: {image: hello}\n",
    ),
    ("unknown field of the spec", "kind: Service\nmetadata:\n  name: hello\nspec:\n  imag: hello\n"),
    ("wrong type", "@replicas: three\n"),
    ("a list where an object belongs", "@http: [1]\n"),
    ("bad unit of bytes", "@resources: {memory: 2Mb}\n"),
    ("span without a unit", "@http: {timeout: {firstByte: 5}}\n"),
    ("missing field", "kind: Service\nname: hello\n"),
    ("missing name", "kind: Service\nimage: hello\n"),
    ("missing kind", "name: hello\nimage: hello\n"),
    ("bad name", "kind: Service\nname: Hello_1\nimage: hello\n"),
    ("bad host", "@http:\n  routes: [{host: shop example, path: /}]\n"),
    ("host with a scheme", "@http:\n  routes: [{host: 'http://shop.example.com', path: /}]\n"),
    ("path without a slash", "@http:\n  routes: [{path: cart}]\n"),
    ("path that climbs", "@http:\n  routes: [{path: /../x}]\n"),
    ("route twice in a service", "@http:\n  routes: [{path: /a}, {path: /a}]\n"),
    (
        "route of another service",
        "kind: Service\nname: second\nimage: hello\nhttp:\n  routes: [{host: hello.default.localhost}]\n",
    ),
    ("object twice in a file", "@---\nkind: Service\nname: hello\nimage: hello\n"),
    ("unknown kind", "kind: Servce\nname: hello\n"),
    ("kind of a later day", "kind: Workflow\nname: hello\nimage: hello\n"),
    ("kind that only Skiff writes", "kind: Replica\nname: hello\n"),
    ("bad version", "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\nspec: {image: hello}\n"),
    ("tab", "@\treplicas: 3\n"),
    ("unclosed bracket", "@env: {A: [\n"),
    ("bad indentation", "@http:\n    inFlight: 3\n  routes: []\n"),
    ("JSON with garbage behind it", "{\"kind\": \"Service\"} x\n"),
    ("field twice", "@image: hello\n"),
    ("empty file", ""),
    ("only a comment", "# nothing yet\n"),
    ("no object", "- 1\n- 2\n"),
    ("text", "hello\n"),
    ("negative replicas", "@replicas: -1\n"),
    ("a billion replicas", "@replicas: 1000000000\n"),
    ("more replicas than a number holds", "@replicas: 99999999999999999999999\n"),
    ("half a replica", "@replicas: 1.5\n"),
    ("number as a variable", "@env: {PORT: 80}\n"),
    ("bad name of a variable", "@env: {A=B: x}\n"),
    ("word that YAML takes for a truth", "@labels: {x: yes}\n"),
    ("bad label", "@labels: {'-x': z}\n"),
    ("no requests at once", "@http: {inFlight: 0}\n"),
    ("more memory than a sandbox has", "@instance: {memory: 8Gi}\n"),
    ("namespace that is not there", "@namespace: nowhere\n"),
    (
        "second object is wrong",
        "kind: Namespace\nname: first\n---\nkind: Service\nname: x\nimage: hello\nreplicas: x\n",
    ),
];

#[test]
fn bad_manifests() {
    let cluster = serving();
    let mut golden = Golden::new("manifests", &cluster);
    for (name, text) in CASES {
        let text = text.replacen('@', HELLO, 1);
        apply(&cluster, &mut golden, name, text.as_bytes(), &text);
    }
    let not_text = [b"kind: Service\nname: ".as_slice(), b"\xff\xfe\n"].concat();
    apply(&cluster, &mut golden, "not UTF-8", &not_text, "(bytes that are not text)\n");
    let large = format!("{HELLO}env: {{A: {}}}\n", "x".repeat(2 << 20));
    apply(&cluster, &mut golden, "too large", large.as_bytes(), "(2 MiB)\n");
    let deep = format!("{HELLO}env: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    apply(&cluster, &mut golden, "nested deep", deep.as_bytes(), "(5000 brackets)\n");
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (last, next) in ["a", "b", "c", "d", "e", "f"].iter().zip(["b", "c", "d", "e", "f", "g"]) {
        bomb.push_str(&format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 9].join(",")));
    }
    apply(&cluster, &mut golden, "alias bomb", bomb.as_bytes(), &bomb);

    for (name, args) in [
        ("file that is not there", &["apply", "-f", "nothere.yaml"][..]),
        ("folder without manifests", &["apply", "-f", "data"]),
        ("delete the default namespace", &["delete", "namespace", "default"]),
    ] {
        golden.run(name, "", &cluster.skiff(args));
        still_serves(name, &cluster);
    }
    cluster.skiff_with_input(&["apply", "-f", "-"], b"kind: Namespace\nname: shop\n").ok();
    cluster.skiff(&["push", "-n", "shop", "hello", skiff_tests::guest("hello").to_str().unwrap()]).ok();
    cluster.skiff(&["run", "-n", "shop", "hello"]).ok();
    golden.run("delete a namespace that is not empty", "", &cluster.skiff(&["delete", "namespace", "shop"]));
    still_serves("a namespace that is not empty", &cluster);
    golden.check(CASES.len() + 8);
    // None of them changed anything: only what was meant to be there is.
    let services = cluster.skiff(&["get", "services", "-A", "-o", "name"]).ok();
    assert_eq!(services.stdout.lines().count(), 2, "{services}");
}

fn apply(cluster: &skiff_tests::Cluster, golden: &mut Golden, name: &str, bytes: &[u8], shown: &str) {
    cluster.write("bad.yaml", bytes);
    golden.run(name, shown, &cluster.skiff(&["apply", "-f", "bad.yaml"]));
    still_serves(name, cluster);
}
