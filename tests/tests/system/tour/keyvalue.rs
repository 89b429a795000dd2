//! Values in buckets: what guests can do with them, what they cannot, and what is left after a crash.

use skiff_tests::Cluster;

use super::push;

const HOST: &str = "keeper.default.localhost";

const APP: &str = "kind: Service\nname: keeper\nimage: keeper\nkeyvalue: [{bucket: all}, {bucket: own, scope: node}]\n";

fn ask(cluster: &Cluster, query: &str) -> String {
    cluster.get_host(HOST, &format!("/keyvalue?{query}")).text().trim_end().to_owned()
}

fn refused(why: &str) -> String {
    format!("a bucket could not be used: {why}")
}

#[test]
fn a_component_that_wants_buckets_is_told_the_line() {
    const BARE: &str = "kind: Service\nname: keeper\nimage: keeper\n";
    let cluster = Cluster::start();
    push(&cluster, "keeper", "keeper");
    cluster.write("app.yaml", BARE);
    let refused = cluster.skiff(&["apply", "-f", "app.yaml"]).fails_with(4);
    let said = "image keeper imports wasi:keyvalue/";
    assert!(refused.stderr.contains(said) && refused.stderr.contains("names no bucket"), "{refused}");
    assert!(refused.stderr.contains("add `keyvalue: [{bucket: NAME}]` to the manifest"), "{refused}");
    // The line may not be taken away again, though the image is the same.
    cluster.write("app.yaml", APP);
    cluster.skiff(&["apply", "-f", "app.yaml", "--wait"]).ok();
    cluster.write("app.yaml", BARE);
    cluster.skiff(&["apply", "-f", "app.yaml"]).fails_with(4);
    let inspected = cluster.skiff(&["inspect", "keeper:latest"]).ok().stdout;
    assert!(inspected.contains("granted") && inspected.contains("needs `keyvalue: [{bucket: NAME}]`"), "{inspected}");
}

#[test]
fn values_are_set_counted_swapped_and_survive() {
    let mut cluster = Cluster::start();
    push(&cluster, "keeper", "keeper");
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
        assert_eq!(ask("do=add&key=k"), refused("the value is not a number"));
        assert_eq!(ask("do=update&key=s&value=mine"), "none, meanwhile");
        assert_eq!(ask("do=get&key=s"), "mine");
        assert_eq!(ask("do=many"), "a=1 b=none");
        assert_eq!(ask("do=keys"), "a,k,n,s");
        assert_eq!(ask("do=delete&key=a"), "deleted");
        assert_eq!(ask("do=keys"), "k,n,s");
        let long = format!("do=get&key={}", "k".repeat(1025));
        assert_eq!(ask(&long), refused("a key has 1 to 1024 bytes, and this one 1025"));
        let large = refused("a value has up to 1048576 bytes, and this one 1048577");
        assert_eq!(ask("do=fill&key=l&value=1048577"), large);
        let pile = refused("one call takes up to 2097152 bytes of keys and values, and this one has 3145734");
        assert_eq!(ask("do=pile&key=p&value=3"), pile);
        assert_eq!(ask("do=exists&key=p0"), "false", "all or nothing");
        assert_eq!(ask("do=fill&key=l&value=1048576"), "filled");
    }
    let none = "there is no bucket none (hint: add `keyvalue: [{bucket: none}]` to the manifest)";
    assert_eq!(ask(&cluster, "bucket=none&do=get&key=k"), none);

    cluster.kill9();
    cluster.restart();
    cluster.eventually_answers_host(HOST, "/?bucket=own", 200);
    for bucket in ["all", "own"] {
        assert_eq!(ask(&cluster, &format!("bucket={bucket}&do=add&key=n&value=0")), "15");
    }
}

#[test]
fn a_backup_has_values_and_what_opens_secrets() {
    let mut cluster = Cluster::start();
    push(&cluster, "keeper", "keeper");
    cluster.write("app.yaml", APP);
    cluster.write("secret.yaml", "kind: Secret\nname: stripe\ndata: {KEY: hunter2}\n");
    cluster.skiff(&["apply", "-f", "secret.yaml", "-f", "app.yaml", "--wait"]).ok();
    for n in 0..3 {
        assert_eq!(ask(&cluster, &format!("bucket=all&do=fill&key=large{n}&value=1048576")), "filled");
    }
    assert_eq!(ask(&cluster, "bucket=all&do=add&key=n&value=7"), "7");
    let (file, folder) = (cluster.path("cluster.backup"), cluster.path("restored"));
    cluster.skiff(&["backup", file.to_str().unwrap()]).ok();
    assert_eq!(ask(&cluster, "bucket=all&do=add&key=n&value=1"), "8");
    cluster.skiff(&["restore", file.to_str().unwrap(), "--data", folder.to_str().unwrap()]).ok();
    cluster.terminate();

    let restored = Cluster::builder().data(&folder).start();
    restored.write("secret.yaml", "kind: Secret\nname: stripe\ndata: {KEY: hunter2}\n");
    restored.eventually_answers_host(HOST, "/?bucket=own", 200);
    assert_eq!(ask(&restored, "bucket=all&do=keys"), "large0,large1,large2,n");
    assert_eq!(ask(&restored, "bucket=all&do=get&key=n"), "7");
    // Sealed with the same key, it is the same.
    assert_eq!(restored.skiff(&["apply", "-f", "secret.yaml"]).ok().stdout, "secret/stripe unchanged\n");
}

#[test]
fn a_namespace_that_is_made_again_begins_with_empty_buckets() {
    let cluster = Cluster::start();
    push(&cluster, "shop/keeper", "keeper");
    let manifest = "kind: Namespace\nname: shop\n---\nkind: Service\nname: keeper\nnamespace: shop\nimage: keeper\nkeyvalue: [{bucket: all}]\n";
    cluster.write("shop.yaml", manifest);
    let ask = |query: &str| {
        let answer = cluster.get_host("keeper.shop.localhost", &format!("/keyvalue?bucket=all&{query}"));
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
