//! Values in buckets: what guests can do with them, what they cannot, and what is left after a crash.

use skiff_tests::Cluster;

use super::{PROBE_HOST, push};

const APP: &str = "kind: Service\nname: probe\nimage: probe\nkeyvalue: [{bucket: all}, {bucket: own, scope: node}]\n";

fn ask(cluster: &Cluster, query: &str) -> String {
    cluster.get_host(PROBE_HOST, &format!("/keyvalue?{query}")).text().trim_end().to_owned()
}

#[test]
fn values_are_set_counted_swapped_and_survive() {
    let mut cluster = Cluster::start();
    push(&cluster, "probe", "probe");
    cluster.write("app.yaml", APP);
    let applied = cluster.skiff(&["apply", "-f", "app.yaml", "--wait"]).ok();
    assert!(applied.stderr.contains("the bucket all is kept by the control plane"), "{applied}");
    for bucket in ["all", "own"] {
        let ask = |query: &str| ask(&cluster, &format!("bucket={bucket}&{query}"));
        assert_eq!(ask("do=get&key=k"), "none");
        assert_eq!(ask("do=exists&key=k"), "false");
        assert_eq!(ask("do=set&key=k&value=v"), "set");
        assert_eq!(ask("do=get&key=k"), "v");
        assert_eq!(ask("do=exists&key=k"), "true");
        assert_eq!(ask("do=add&key=n&value=5&n=3"), "15");
        assert_eq!(ask("do=add&key=k"), "refused: the value is not a number");
        assert_eq!(ask("do=swap&key=s&value=mine"), "none, meanwhile, mine");
        assert_eq!(ask("do=get&key=s"), "mine");
        assert_eq!(ask("do=many"), "a=1 b=none");
        assert_eq!(ask("do=keys"), "a,k,n,s None");
        assert_eq!(ask("do=delete&key=a"), "deleted");
        assert_eq!(ask("do=keys&value=k"), "n,s None");
        assert_eq!(
            ask(&format!("do=get&key={}", "k".repeat(1025))),
            "refused: a key has 1 to 1024 bytes, and this one 1025"
        );
        let large = ask("do=fill&key=l&value=1048577");
        assert_eq!(large, "refused: a value has up to 1048576 bytes, and this one 1048577");
        assert_eq!(ask("do=fill&key=l&value=1048576"), "filled");
    }
    assert_eq!(ask(&cluster, "bucket=none&do=get&key=k"), "refused: no such store");

    cluster.kill9();
    cluster.restart();
    cluster.eventually_answers_host(PROBE_HOST, "/", 200);
    for bucket in ["all", "own"] {
        assert_eq!(ask(&cluster, &format!("bucket={bucket}&do=add&key=n&value=0")), "15");
    }
}

#[test]
fn a_namespace_that_is_made_again_begins_with_empty_buckets() {
    let cluster = Cluster::start();
    push(&cluster, "shop/probe", "probe");
    let manifest = "kind: Namespace\nname: shop\n---\nkind: Service\nname: probe\nnamespace: shop\nimage: probe\nkeyvalue: [{bucket: all}]\n";
    cluster.write("shop.yaml", manifest);
    let ask = |query: &str| {
        let answer = cluster.get_host("probe.shop.localhost", &format!("/keyvalue?bucket=all&{query}"));
        answer.text().trim_end().to_owned()
    };
    cluster.skiff(&["apply", "-f", "shop.yaml", "--wait"]).ok();
    assert_eq!(ask("do=add&key=n"), "1");
    cluster.skiff(&["delete", "-f", "shop.yaml"]).ok();
    cluster.skiff(&["apply", "-f", "shop.yaml", "--wait"]).ok();
    assert_eq!(ask("do=add&key=n"), "1");
}

#[test]
#[ignore = "long: compiles a JavaScript engine"]
fn javascript_is_told_and_remembers_as_well() {
    let cluster = Cluster::start();
    push(&cluster, "state-js", "state-js");
    cluster.write(
        "state.yaml",
        "kind: Config\nname: app\ndata: {REGION: eu}\n---\nkind: Service\nname: state\nimage: state-js\nconfig: [app]\nkeyvalue: [{bucket: all}, {bucket: own, scope: node}]\nhttp:\n  routes: [{path: /}]\n",
    );
    cluster.skiff(&["apply", "-f", "state.yaml", "--wait", "--timeout", "600s"]).ok();
    let ask = |path: &str| cluster.get(path).text();
    assert_eq!(ask("/config"), "{\"REGION\":\"eu\"}\n");
    assert_eq!(ask("/key?key=REGION"), "eu\n");
    for bucket in ["all", "own"] {
        assert_eq!(ask(&format!("/values?bucket={bucket}")), "a,b,c false 1 2  a=1,d=undefined\n");
        assert_eq!(ask(&format!("/add?bucket={bucket}")), "5\n");
        assert_eq!(ask(&format!("/update?bucket={bucket}")), "theirs, mine\n");
    }
    for (path, told) in [
        ("/key?key=NO", "no Config or Secret of this service has the key NO"),
        ("/values?bucket=nope", "there is no bucket nope (hint: add keyvalue: [{bucket: nope}] to the manifest)"),
        ("/full", "a key has 1 to 1024 bytes, and this one 1025"),
    ] {
        assert_eq!(cluster.get(path).status, 500, "{path}");
        let log = cluster.skiff(&["logs", "state"]).ok().stderr;
        assert!(log.contains(told) && log.contains("at fetch (index.js:"), "{path}: {log}");
    }
}
