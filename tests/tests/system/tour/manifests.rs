//! Apply in all its ways, diff, and going round through `get`.

use std::thread;

use skiff_tests::Cluster;

use super::push;

#[test]
fn manifests_come_from_files_folders_and_standard_input() {
    let cluster = Cluster::start();
    push(&cluster, "hello", "hello");
    let hello = "kind: Service\nname: hello\nlabels: {tier: web}\nimage: hello\nhttp:\n  routes: [{path: /}]\n";
    cluster.write("hello.yaml", hello);

    let dry = cluster.skiff(&["apply", "-f", "hello.yaml", "--dry-run"]).ok();
    assert_eq!(dry.stdout, "service/hello created (dry run)\n");
    cluster.skiff(&["get", "service", "hello"]).fails_with(3);
    let diff = cluster.skiff(&["diff", "-f", "hello.yaml"]).fails_with(1);
    assert!(diff.stdout.contains("+  name: hello"), "{diff}");

    cluster.skiff(&["apply", "-f", "hello.yaml", "--wait"]).ok();
    assert_eq!(cluster.get("/").status, 200, "ready means that it answers");
    let again = cluster.skiff(&["apply", "-f", "hello.yaml"]).ok();
    assert_eq!(again.stdout, "service/hello unchanged\n");
    assert_eq!(cluster.skiff(&["diff", "-f", "hello.yaml"]).ok().stdout, "");

    let from_get = cluster.skiff(&["get", "service", "hello", "-o", "yaml"]).ok().stdout;
    let round = cluster.skiff_with_input(&["apply", "-f", "-"], from_get.as_bytes()).ok();
    assert_eq!(round.stdout, "service/hello unchanged\n");
    let list = cluster.skiff(&["get", "services", "-o", "yaml"]).ok().stdout;
    let round = cluster.skiff_with_input(&["apply", "-f", "-"], list.as_bytes()).ok();
    assert_eq!(round.stdout, "service/hello unchanged\n");

    // The namespace comes first, wherever its file stands.
    cluster.write("shop/a.yaml", "kind: Service\nname: cart\nnamespace: shop\nimage: cart\nlabels: {tier: shop}\n");
    cluster.write("shop/b.json", r#"{"kind": "Namespace", "name": "shop"}"#);
    cluster.write("shop/notes.txt", "not a manifest");
    push(&cluster, "shop/cart", "hello");
    let folder = cluster.skiff(&["apply", "-f", "shop", "--wait"]).ok();
    assert_eq!(folder.stdout, "namespace/shop created\nservice/cart created\n");
    assert_eq!(cluster.get_host("cart.shop.localhost", "/").status, 200);

    let names = |args: &[&str]| cluster.skiff(&[&["get", "services", "-o", "name"], args].concat()).ok().stdout;
    assert_eq!(names(&["-l", "tier=web"]), "service/hello\n");
    assert_eq!(names(&["-A", "-l", "tier"]).lines().count(), 2);
    assert_eq!(names(&["-A", "-l", "tier!=web"]).lines().count(), 1);

    // What somebody wrote keeps its namespace; that of the same files goes with it, once its replicas have stopped.
    cluster.skiff(&["delete", "-f", "shop/b.json"]).fails_with(5);
    let gone = cluster.skiff(&["delete", "-f", "shop"]).ok();
    assert_eq!(gone.stdout, "service/cart deleted\nnamespace/shop deleted\n");
    cluster.skiff(&["get", "namespace", "shop"]).fails_with(3);
}

#[test]
fn ten_services_start_at_once() {
    let cluster = Cluster::start();
    push(&cluster, "hello", "hello");
    thread::scope(|scope| {
        for i in 0..10 {
            let cluster = &cluster;
            scope.spawn(move || {
                let name = format!("hello-{i}");
                cluster.skiff(&["run", "hello", "--name", &name]).ok();
                assert_eq!(cluster.get_host(&format!("{name}.default.localhost"), "/").status, 200);
            });
        }
    });
}

#[test]
fn an_overlay_changes_what_is_different_elsewhere() {
    let cluster = Cluster::start();
    push(&cluster, "app", "hello");
    push(&cluster, "core", "core");
    cluster.write(
        "base.yaml",
        "kind: Service\nname: app\nimage: app\nenv: {LOG: info, MODE: a}\n---\nkind: Job\nname: once\nimage: core\n",
    );
    cluster.write(
        "prod.yaml",
        "kind: Service\nname: app\nreplicas: 2\nenv: {LOG: null}\n---\nkind: Job\nname: once\nargs: [say=prod]\n",
    );
    let both = ["-f", "base.yaml", "--overlay", "prod.yaml"];
    cluster.skiff(&[&["apply", "--wait"][..], &both].concat()).ok();
    let app = cluster.skiff(&["get", "service", "app", "-o", "json"]).ok().json();
    assert_eq!(
        (&app["spec"]["replicas"], &app["spec"]["env"]),
        (&2.into(), &serde_json::json!({"MODE": "a"})),
        "{app}"
    );
    assert_eq!(cluster.skiff(&["logs", "job/once"]).ok().stderr, "prod\n");
    assert_eq!(cluster.skiff(&[&["diff"][..], &both].concat()).ok().stdout, "", "nothing is left to change");
    cluster.write("bad.yaml", "kind: Service\nname: app\nreplicas: some\n");
    let bad = cluster.skiff(&["apply", "-f", "base.yaml", "--overlay", "bad.yaml"]).fails_with(4).stderr;
    assert!(bad.contains("bad.yaml:3:11: replicas"), "{bad}");
}
