//! Volumes of containers: what is in them stays as long as their service does, and is nobody else's.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use skiff_tests::docker::{Engine, apart};
use skiff_tests::{Cluster, Fleet, guest, within};

use super::containers::{PATIENCE, World, push};

/// A server that adds a byte to the file `FILE` when it is asked for `/add`, and answers with its revision and the file's length.
const KEEPER: &str = r#"
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, _exit); signal(SIGPIPE, SIG_IGN);
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(8080) };
    if (bind(server, (void *)&at, sizeof at) || listen(server, 128)) return 4;
    for (;;) {
        char ask[4096], say[256], answer[512]; int client = accept(server, NULL, NULL);
        if (client < 0) continue;
        int count = read(client, ask, sizeof ask - 1);
        ask[count < 0 ? 0 : count] = 0;
        const char *how = "";
        if (!strncmp(ask, "GET /add", 8)) {
            FILE *file = fopen(getenv("FILE"), "a");
            if (file) { fputc('x', file); fclose(file); } else how = " refused";
        }
        long length = -1;
        FILE *file = fopen(getenv("FILE"), "r");
        if (file) { fseek(file, 0, SEEK_END); length = ftell(file); fclose(file); }
        snprintf(say, sizeof say, "%s %ld%s\n", getenv("TURN") ? getenv("TURN") : "1", length, how);
        count = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", strlen(say), say);
        write(client, answer, count);
        close(client);
    }
"#;

fn keeper(turn: u32, volumes: &str) -> String {
    format!(
        "image: native:1\nenv: {{FILE: /data/file, TURN: \"{turn}\"}}\nports: [{{port: 8080}}]\nvolumes: [{volumes}]\n\
         http: {{routes: [{{path: /}}]}}\n"
    )
}

fn until_said(cluster: &Cluster, path: &str, expected: &str) {
    within(PATIENCE, &format!("{path} says {expected:?}"), || {
        let answer = cluster.get(path);
        (answer.status == 200 && answer.text() == expected).then_some(())
    });
}

impl World {
    /// Skiff's volumes of the engine.
    fn volumes(&self) -> Vec<String> {
        let names = self.docker().ok(&["volume", "ls", "--quiet", "--filter", "label=skiff.volume"]);
        names.lines().map(str::to_owned).collect()
    }

    fn no_volume_is_left(&self) {
        within(PATIENCE, "no volume is left", || self.volumes().is_empty().then_some(()));
    }
}

#[test]
fn what_is_kept_survives_all_but_the_end_of_its_service() {
    apart(|| {
        let mut world = World::of(KEEPER);
        let docker = |world: &World, args: &[&str]| world.docker().ok(args);
        docker(&world, &["volume", "create", "mine"]);
        docker(&world, &["volume", "create", "--label", "skiff.node=another", "--label", "skiff.owner=x", "another"]);
        world.apply("keeper", &keeper(1, "{name: data, path: /data}"));
        world.cluster.eventually_answers("/", 200);
        assert_eq!(world.cluster.get("/add").text(), "1 1\n");
        let first = world.volumes();
        assert!(first.len() == 1 && first[0].starts_with("skiff-default-keeper-data-"), "{first:?}");

        // One copy at a time, and never two: the old one has ended before the new one starts.
        world.apply("keeper", &keeper(2, "{name: data, path: /data}"));
        until_said(&world.cluster, "/", "2 1\n");
        let run = world.cluster.skiff(&["scale", "keeper", "--replicas=2"]);
        assert!(run.code != Some(0) && run.stderr.contains("with the volume data"), "{run}");
        let why = world.cluster.skiff(&["why", "keeper"]).ok().stdout;
        assert!(why.contains("its volume data is there"), "{why}");

        // Nothing runs, and the volume stays.
        world.cluster.skiff(&["scale", "keeper", "--replicas=0"]).ok();
        world.nothing_is_left();
        assert_eq!(world.volumes(), first);
        world.cluster.skiff(&["scale", "keeper", "--replicas=1"]).ok();
        until_said(&world.cluster, "/", "2 1\n");

        // The node's process: killed, its container is ended by the next one; asked to end, it ends it itself.
        let before = world.containers();
        world.cluster.kill9();
        world.cluster.restart();
        until_said(&world.cluster, "/", "2 1\n");
        assert_ne!(world.containers(), before, "it would have run without a lease");
        world.cluster.terminate();
        assert!(world.containers().is_empty(), "nobody would hold its lease");
        world.cluster.restart();
        until_said(&world.cluster, "/add", "2 2\n");
        assert_eq!(world.volumes(), first);

        // Its service ends, and what was kept with it. Another one of that name begins anew.
        world.cluster.skiff(&["delete", "service", "keeper"]).ok();
        world.no_volume_is_left();
        world.nothing_is_left();
        let left = docker(&world, &["volume", "ls", "--quiet"]);
        assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["another", "mine"]);
        world.apply("keeper", &keeper(3, "{name: data, path: /data}"));
        until_said(&world.cluster, "/", "3 -1\n");

        // It is deleted while its node cannot see to that: that is made up for.
        let data = world.cluster.data();
        world.cluster.terminate();
        let mut blind = Cluster::builder().data(&data).arg("--docker=none").start();
        blind.skiff(&["delete", "service", "keeper"]).ok();
        within(PATIENCE, "its replica is gone", || {
            blind.skiff(&["get", "replicas"]).ok().stdout.lines().all(|line| !line.contains("keeper")).then_some(())
        });
        assert_eq!(blind.terminate(), Some(0));
        assert_eq!(world.volumes().len(), 1);
        world.cluster.restart();
        world.no_volume_is_left();
        let left = docker(&world, &["volume", "ls", "--quiet"]);
        assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["another", "mine"]);
    });
}

#[test]
fn folders_of_the_machine_are_granted_and_lead_where_they_say() {
    apart(|| {
        let world = World::of(KEEPER);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let path = |name: &str| root.join(name).display().to_string();
        std::fs::create_dir(path("data")).unwrap();
        std::fs::write(path("data/file"), "xyz").unwrap();
        symlink("/etc", path("out")).unwrap();
        let refused = |rest: &str, expected: &str| {
            let file = world.cluster.write("bad.yaml", format!("kind: Service\nname: keeper\n{rest}"));
            let run = world.cluster.skiff(&["apply", "-f", &file]);
            assert!(run.code != Some(0) && run.stderr.contains(expected), "{run}");
        };
        let volume = |name: &str, more: &str| format!("{{hostPath: {}, path: /data{more}}}", path(name));
        refused(&keeper(1, &volume("data", "")), &format!("allow: {{hostPaths: [{:?}]}}", path("data")));
        let grant = |paths: &str| {
            let text = format!("kind: Namespace\nname: default\nallow: {{hostPaths: [{paths}]}}\n");
            let file = world.cluster.write("namespace.yaml", text);
            world.cluster.skiff(&["apply", "-f", &file])
        };
        grant(&path("dat")).ok();
        refused(&keeper(1, &volume("data", "")), "does not grant");
        grant(&root.display().to_string()).ok();
        refused(&keeper(1, "{hostPath: /srv/../etc, path: /data}"), "a part of it is . or ..");

        // It only reads: as many copies as one likes, and what is there stays as it is.
        let reads = format!("replicas: 2\n{}", keeper(1, &volume("data", ", readOnly: true")));
        world.apply("keeper", &reads);
        world.cluster.eventually_answers("/", 200);
        assert_eq!(world.cluster.get("/add").text(), "1 3 refused\n");
        within(PATIENCE, "both run", || (world.containers().len() == 2).then_some(()));
        let run = grant("");
        assert!(run.code != Some(0) && run.stderr.contains("would no longer grant what is in use"), "{run}");

        // It writes: one copy.
        world.apply("keeper", &format!("replicas: 1\n{}", keeper(2, &volume("data", ""))));
        until_said(&world.cluster, "/", "2 3\n");
        until_said(&world.cluster, "/add", "2 4\n");
        assert_eq!(std::fs::read(Path::new(&path("data/file"))).unwrap(), b"xyzx");
        within(PATIENCE, "one runs", || (world.containers().len() == 1).then_some(()));

        // A link leads where nothing was granted.
        world.cluster.skiff(&["delete", "service", "keeper"]).ok();
        world.nothing_is_left();
        world.apply("keeper", &keeper(3, &volume("out", ", readOnly: true")));
        world.eventually_said(&["describe", "service", "keeper"], "leads to /etc by a symbolic link");
        assert!(world.containers().is_empty());
        world.cluster.skiff(&["delete", "service", "keeper"]).ok();
        assert_eq!(std::fs::read(Path::new(&path("data/file"))).unwrap(), b"xyzx", "it is not Skiff's to remove");
    });
}

#[test]
fn a_component_has_no_volumes() {
    apart(|| {
        let cluster = Cluster::builder().arg("--docker=none").start();
        cluster.skiff(&["push", "hello:1", guest("hello").to_str().unwrap()]).ok();
        let file =
            cluster.write("bad.yaml", "kind: Service\nname: bad\nimage: hello:1\nvolumes: [{name: a, path: /a}]\n");
        let run = cluster.skiff(&["apply", "-f", &file]);
        assert!(run.code != Some(0) && run.stderr.contains("volumes is for containers"), "{run}");
        assert!(run.stderr.contains("keyvalue"), "{run}");
    });
}

/// Nobody renews its lease: the control plane may believe that it is gone, and what it runs begin elsewhere.
#[test]
fn a_node_that_hears_nobody_ends_its_container_with_the_lease() {
    apart(|| {
        let (engine, folder) = (Engine::start(), tempfile::tempdir().unwrap());
        let mut fleet = Fleet::on_loopback();
        fleet.join("n1", &[&format!("--docker={}", engine.socket().display())]);
        let docker = engine.docker("tester");
        let registry = fleet.server_url().replace("https://", "");
        let context: serde_json::Value =
            serde_json::from_slice(&std::fs::read(fleet.path("context.json")).unwrap()).unwrap();
        push(&docker, folder.path(), (&registry, context["token"].as_str().unwrap()), KEEPER);
        let manifest = format!("kind: Service\nname: keeper\n{}", keeper(1, "{name: data, path: /data}"));
        let file = fleet.write("keeper.yaml", manifest);
        fleet.skiff(&["apply", "-f", &file]).ok();
        assert_eq!(fleet.eventually_answers("n1", "any.test", "/add", 200).text(), "1 1\n");
        let containers = || docker.ok(&["ps", "--quiet", "--filter", "label=skiff.replica"]);

        fleet.kill_server();
        let alone = Instant::now();
        assert!(!containers().is_empty(), "it may go on for a while");
        within(PATIENCE, "it is ended", || containers().is_empty().then_some(()));
        let lasted = alone.elapsed();
        assert!((20..33).contains(&lasted.as_secs()), "it went on for {lasted:?}");
        assert_ne!(fleet.get("n1", "any.test", "/").map(|answer| answer.status), Some(200));
        fleet.start_server();
        assert_eq!(fleet.eventually_answers("n1", "any.test", "/", 200).text(), "1 1\n");
    });
}
