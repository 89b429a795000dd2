//! The registry's verbs, as users of docker expect them.

use std::fs;

use skiff_tests::{Cluster, guest};

use super::image::{digest, hello};

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn push(cluster: &Cluster, image: &str) -> String {
    let run = cluster.skiff(&["push", image, guest("hello").to_str().unwrap()]).ok();
    run.stdout.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn images_are_listed_tagged_pulled_and_removed() {
    let cluster = Cluster::start();
    let none = cluster.skiff(&["images"]).ok();
    assert!(none.stdout.is_empty() && none.stderr.contains("there are no images in namespace default"), "{none}");
    let pushed = push(&cluster, "hello:1");
    push(&cluster, "ops/tool:2");
    let short = &pushed["sha256:".len()..][..12];

    let table = cluster.skiff(&["images"]).ok().stdout;
    let lines = words(&table);
    assert_eq!(lines[0], ["NAME", "TAG", "DIGEST", "KIND", "SIZE", "CREATED"]);
    assert_eq!(lines[1][..4], ["default/hello", "1", short, "component"], "{table}");
    assert!(lines[1][4].ends_with("kB") && lines[1][5] == "-" && lines.len() == 2, "{table}");
    assert!(cluster.skiff(&["images", "--no-trunc"]).ok().stdout.contains(&pushed));
    let all = cluster.skiff(&["images", "-A", "-o", "name"]).ok().stdout;
    assert_eq!(all, "default/hello:1\nops/tool:2\n");
    let json = cluster.skiff(&["images", "ops/tool", "-o", "json"]).ok().json();
    assert_eq!(
        (&json[0]["name"], &json[0]["digest"], json.as_array().unwrap().len()),
        (&"ops/tool".into(), &pushed.as_str().into(), 1)
    );
    assert!(json[0]["bytes"].as_u64().unwrap() > hello().len() as u64 && json[0]["created"].is_null(), "{json}");

    let tagged = cluster.skiff(&["tag", "hello:1", "hello:stable"]).ok().stdout;
    assert_eq!(tagged, format!("default/hello:stable {pushed}\n"));
    cluster.skiff(&["tag", &format!("hello@{pushed}"), "shop/greeter:1"]).ok();
    let all = cluster.skiff(&["images", "-A", "-o", "name"]).ok().stdout;
    assert_eq!(all, "default/hello:1\ndefault/hello:stable\nops/tool:2\nshop/greeter:1\n");

    let pulled = cluster.skiff(&["pull", "shop/greeter:1"]).ok().stdout;
    assert_eq!(pulled, format!("greeter.wasm {pushed}\n"));
    assert_eq!(digest(&fs::read(cluster.path("greeter.wasm")).unwrap()), digest(&hello()));
    cluster.skiff(&["pull", "hello:1", "out.wasm"]).ok();
    assert_eq!(fs::read(cluster.path("out.wasm")).unwrap(), hello());

    assert_eq!(cluster.skiff(&["rmi", "hello:stable"]).ok().stdout, "Untagged: default/hello:stable\n");
    cluster.skiff(&["run", "hello:1", "--path", "/"]).ok();
    let used = cluster.skiff(&["rmi", &format!("hello@{pushed}")]).fails_with(5);
    assert!(used.stderr.contains("service default/hello runs it"), "{used}");
    let deleted = cluster.skiff(&["rmi", "--force", &format!("hello@{pushed}"), "ops/tool:2"]).ok().stdout;
    assert_eq!(deleted, format!("Deleted: default/hello@{pushed}\nUntagged: ops/tool:2\n"));
    assert_eq!(cluster.get("/").status, 200, "what runs goes on");
    let gone = cluster.skiff(&["rmi", "hello:1"]).fails_with(3);
    assert!(gone.stderr.contains("there is no such image"), "{gone}");
    cluster.skiff(&["pull", "hello:1"]).fails_with(3);
    assert!(!cluster.path("hello.wasm").exists());
}

#[test]
fn a_moved_tag_is_told_at_the_next_apply_only() {
    let cluster = Cluster::start();
    let pushed = push(&cluster, "hello:1");
    let manifest =
        cluster.write("hello.yaml", "kind: Service\nname: hello\nimage: hello:1\nhttp: {routes: [{path: /}]}\n");
    cluster.skiff(&["apply", "-f", &manifest, "--wait"]).ok();
    let run = cluster.skiff(&["push", "hello:1", guest("probe").to_str().unwrap()]).ok();
    let moved = run.stdout.split_whitespace().nth(1).unwrap().to_owned();
    assert_ne!(moved, pushed);
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");
    let applied = cluster.skiff(&["apply", "-f", &manifest]).ok().stdout;
    let short = |digest: &str| digest["sha256:".len()..][..12].to_owned();
    let expected = format!("(hello:1 moved sha256:{} -> sha256:{})", short(&pushed), short(&moved));
    assert!(applied.contains(&expected), "{applied}");
}

#[test]
fn a_login_is_kept_where_docker_finds_it() {
    let cluster = Cluster::start();
    let (server, token) = (format!("http://{}", cluster.api_addr()), cluster.token());
    fs::remove_file(cluster.path("context.json")).unwrap();
    cluster.skiff(&["images"]).fails_with(7);
    let login = ["login", "--server", server.as_str(), "--password-stdin"];
    let wrong = cluster.skiff_with_input(&login, b"wrong\n").fails_with(6);
    assert!(wrong.stderr.contains("failed to log in to http://"), "{wrong}");
    assert!(!cluster.path("context.json").exists(), "what does not work is not remembered");
    let done = cluster.skiff_with_input(&login, format!("{token}\n").as_bytes()).ok();
    assert_eq!(done.stdout, "Login Succeeded\n");
    push(&cluster, "hello:1");

    let config =
        cluster.write("docker/config.json", r#"{"detachKeys": "ctrl-e", "auths": {"ghcr.io": {"auth": "dTpw"}}}"#);
    cluster.skiff(&["login", "--docker"]).ok();
    let text = fs::read_to_string(&config).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    let address = cluster.api_addr().to_string();
    assert!(stored["auths"][&address]["auth"].is_string(), "{text}");
    assert_eq!((&stored["detachKeys"], &stored["auths"]["ghcr.io"]["auth"]), (&"ctrl-e".into(), &"dTpw".into()));
    assert!(!text.contains(&token), "it is encoded, as docker does it");

    // By docker's login alone: the context is of somewhere else.
    let image = format!("{address}/default/hello:1");
    let run = cluster.skiff(&["pull", "--server", "http://127.0.0.1:9", "--token", "x", &image, "by-docker.wasm"]).ok();
    assert_eq!(fs::read(cluster.path("by-docker.wasm")).unwrap(), hello(), "{run}");

    let out = cluster.skiff(&["logout", "--docker"]).ok().stdout;
    assert_eq!(out, format!("Removing login credentials for {address}\nRemoving login credentials for {server}\n"));
    let text = fs::read_to_string(&config).unwrap();
    assert!(!text.contains(&address) && text.contains("ghcr.io"), "{text}");
    assert_eq!(cluster.skiff(&["logout"]).ok().stdout, "Not logged in to a control plane\n");
    let refused = cluster.skiff(&["pull", &image]).fails_with(6);
    assert!(
        refused.stderr.contains(&format!("wants a login for default/hello:1 (hint: skiff login {address}")),
        "{refused}"
    );
}

#[test]
fn what_makes_no_sense_is_said() {
    let cluster = Cluster::start();
    push(&cluster, "hello:1");
    let refused = |args: &[&str], code: i32, expected: &str| {
        let run = cluster.skiff(args).fails_with(code);
        assert!(run.stderr.contains(expected), "{run}");
    };
    let zeros = format!("hello@sha256:{}", "0".repeat(64));
    refused(&["tag", "hello:1", &zeros], 4, "a digest is no name to give");
    refused(&["tag", "hello:9", "hello:2"], 3, "is not in the registry");
    refused(&["tag", "ghcr.io/a/b", "hello:2"], 4, "ghcr.io is not this cluster's registry");
    refused(&["rmi", "ghcr.io/a/b:1"], 4, "a copy here is called default/mirror/ghcr.io/a/b");
    refused(&["rmi", &zeros], 3, "there is no such image");
    refused(&["pull", "hello:1", "."], 4, "it is a folder");
    refused(&["pull", "hello:1", "no/such/folder/a.wasm"], 4, "failed to write");
    refused(&["pull", "localhost:1/a/b"], 7, "failed to connect to the registry at localhost:1");
    refused(&["login", "ghcr.io"], 4, "name the user with --username");
    refused(&["login", "no registry", "-u", "me"], 4, "this is not a registry");
    refused(&["login", "localhost:1", "-u", "me"], 4, "--password-stdin");
    let run = cluster.skiff_with_input(&["login", "localhost:1", "-u", "me", "--password-stdin"], b"pw").fails_with(7);
    assert!(run.stderr.contains("failed to connect to the registry at localhost:1"), "{run}");
}
